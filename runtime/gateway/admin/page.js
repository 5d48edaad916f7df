'use strict';
// Shows /admin/state once a second, and talks to the API of the same address.

const $ = id => document.getElementById(id);
const HISTORY = 120;        // seconds of rates
const WATERFALL = 40;       // requests shown
const key = $('key');
key.value = sessionStorage.getItem('key') || '';
key.addEventListener('change', () => sessionStorage.setItem('key', key.value));

function ask(path, options = {}) {
  const headers = {...options.headers};
  if (key.value) headers.Authorization = 'Bearer ' + key.value;
  return fetch(path, {cache: 'no-store', ...options, headers});
}

// ---- drawing ----

// Text goes in as text: what clients call their requests is nobody's markup.
function make(tag, attributes = {}, ...children) {
  const svg = ['svg', 'rect', 'path', 'title'].includes(tag);
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const round = value => value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
const percent = share => (100 * share).toFixed(0) + ' %';
const time = ms => ms >= 1000 ? (ms / 1000).toFixed(2) + ' s' : ms.toFixed(ms < 10 ? 1 : 0) + ' ms';

function size(bytes) {
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (bytes < 1024) return (bytes < 10 && unit !== 'B' ? bytes.toFixed(1) : bytes.toFixed(0)) + ' ' + unit;
    bytes /= 1024;
  }
  return bytes.toFixed(1) + ' TiB';
}

function meter(kind, parts) {
  const bar = make('div', {class: 'meter ' + kind});
  for (const [name, share] of parts) {
    const part = make('span', {class: name, title: name});
    part.style.width = 100 * share + '%';
    bar.append(part);
  }
  return bar;
}

function quantile(values, q) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

function drawRates(history) {
  const most = Math.max(1, ...history.map(h => Math.max(h.generation, h.prompt)));
  const path = name => history.map((h, i) => {
    const x = 600 - (history.length - 1 - i) * 600 / (HISTORY - 1);
    return (i === 0 ? 'M' : 'L') + x.toFixed(1) + ' ' + (116 - 112 * h[name] / most).toFixed(1);
  }).join('');
  $('rates').replaceChildren(make('path', {class: 'prompt', d: path('prompt')}),
                             make('path', {class: 'generation', d: path('generation')}));
}

function drawTopology(state, busy) {
  const hosts = new Map();
  for (const rank of state.ranks) hosts.set(rank.host, [...(hosts.get(rank.host) || []), rank]);
  $('topology').replaceChildren(...[...hosts].map(([host, ranks]) => {
    const stages = make('div', {class: 'stages'});
    for (const stage of [...new Set(ranks.map(r => r.stage))].sort((a, b) => a - b)) {
      const column = make('div', {class: 'stage'}, `stage ${stage}`);
      if (busy[stage] !== undefined) {
        column.append(meter('', [['busy', busy[stage]]]), make('span', {class: 'quiet'}, percent(busy[stage]) + ' busy'));
      }
      for (const r of ranks.filter(other => other.stage === stage))
        column.append(make('div', {class: 'rank'}, `rank ${r.rank}`, make('div', {class: 'quiet'}, `shard ${r.shard}, pid ${r.pid}`)));
      stages.append(column);
    }
    const device = state.mesh ? `, ${state.mesh.device}` : '';
    return make('div', {class: 'host'}, make('b', {}, host), make('span', {class: 'quiet'}, device), stages);
  }));
}

const KINDS = {pages: 'pages: all tokens', window: 'pages of a window', state: 'states of constant size'};

function drawCache(cache) {
  $('cache').replaceChildren(...cache.classes.map(c => make('div', {class: 'class'},
    `${KINDS[c.kind] || c.kind}, ${c.total} blocks of ${size(c.block_bytes)}`,
    meter('tall', [['live', c.live / c.total], ['cached', c.cached / c.total]]),
    make('span', {class: 'quiet'}, `${c.live} live, ${c.cached} cached, ${c.free} free`))));
  const hits = cache.prefix_queries > 0 ? percent(cache.prefix_hits / cache.prefix_queries) : '–';
  $('cache-figures').textContent = `prompt tokens from the cache ${hits}, blocks evicted ${cache.blocks_evicted}` +
    (cache.spilled_bytes > 0 ? `, in host memory ${size(cache.spilled_bytes)}` : '');
}

// Times are milliseconds ago, so that larger is earlier.
function drawWaterfall(requests) {
  const shown = requests.slice(-WATERFALL).reverse();
  const span = Math.max(1000, ...shown.map(r => r.received ?? r.arrived));
  $('waterfall-span').textContent = shown.length > 0 ? `the last ${time(span)}` : 'none yet';
  $('waterfall').replaceChildren(...shown.map(r => {
    const svg = make('svg', {viewBox: `0 0 ${span} 12`, preserveAspectRatio: 'none'});
    const bar = (name, from, to) => {
      if (from === undefined) return;
      const width = Math.max(from - (to ?? r.ended ?? 0), span / 400);
      svg.append(make('rect', {class: name, x: span - from, y: 1, width, height: 10}));
    };
    bar('queue', r.received ?? r.arrived, r.scheduled);
    bar('prefill', r.scheduled, r.first_token);
    bar('decode', r.first_token, r.ended);
    const begin = r.received ?? r.arrived;
    svg.append(make('title', {}, [
      `request ${r.id} (${r.request_id})`,
      `prompt ${r.prompt_tokens} tokens, ${r.cached_tokens} cached, in ${r.chunks.length} steps`,
      `output ${r.output_tokens} tokens, ${r.finish ?? 'running'}`,
      r.scheduled !== undefined ? `queue ${time(begin - r.scheduled)}` : 'waiting',
      r.first_token !== undefined ? `first token after ${time(begin - r.first_token)}` : '',
      r.preemptions > 0 ? `preempted ${r.preemptions} times` : ''].filter(Boolean).join('\n')));
    const text = `${r.id}  ${r.prompt_tokens} + ${r.output_tokens}  ${r.finish ?? '…'}  ${r.request_id}`;
    return make('div', {class: 'life ' + (r.finish ?? '')}, make('span', {title: r.request_id}, text), svg);
  }));
}

// ---- the state, once a second ----

const history = [];
let before = null;

function show(state, at) {
  $('status').textContent = state.status;
  $('status').className = 'status ' + state.status;
  $('model').textContent = state.model;
  $('about').textContent = `${state.root}, version ${state.version}` + (state.api_url ? `, API at ${state.api_url}` : '');
  document.title = `${state.model} – Trireme`;
  const busy = {};
  if (state.status !== 'loading') {
    if (before !== null && before.state.counters && at > before.at) {
      const seconds = (at - before.at) / 1000;
      const rate = name => Math.max(0, state.counters[name] - before.state.counters[name]) / seconds;
      history.push({generation: rate('generation_tokens'), prompt: rate('prompt_tokens')});
      if (history.length > HISTORY) history.shift();
      $('generation-rate').textContent = round(history.at(-1).generation);
      $('prompt-rate').textContent = round(history.at(-1).prompt);
      drawRates(history);
      state.stages.forEach((stage, i) => {
        busy[i] = Math.min(1, Math.max(0, stage.busy_seconds - before.state.stages[i].busy_seconds) / seconds);
      });
    }
    $('running').textContent = state.sequences.running;
    $('waiting').textContent = state.sequences.waiting;
    const answered = state.requests.filter(r => r.first_token !== undefined);
    const both = values => values.length === 0 ? '–' : `${time(quantile(values, .5))} / ${time(quantile(values, .99))}`;
    $('ttft').textContent = both(answered.map(r => (r.received ?? r.arrived) - r.first_token));
    $('tpot').textContent = both(answered.filter(r => r.output_tokens > r.choices)
      .map(r => (r.first_token - r.last_token) / (r.output_tokens / r.choices - 1)));
    drawCache(state.cache);
    drawWaterfall(state.requests);
  }
  drawTopology(state, busy);
  before = {state, at};
}

async function refresh() {
  try {
    const answer = await ask('admin/state');
    if (answer.status === 401) {
      $('key-row').hidden = false;
      throw new Error('needs an API key');
    }
    if (!answer.ok) throw new Error('status ' + answer.status);
    show(await answer.json(), performance.now());
  } catch (error) {
    $('status').textContent = error instanceof TypeError ? 'not reached' : error.message;
    $('status').className = 'status lost';
    before = null;
  }
  setTimeout(refresh, 1000);
}

// ---- the trace ----

$('trace').addEventListener('click', async () => {
  const button = $('trace');
  button.disabled = true;
  try {
    const answer = await ask('admin/trace?last=10');
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const link = make('a', {href: URL.createObjectURL(await answer.blob()), download: 'trireme-trace.json'});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    $('waterfall-span').textContent = error.message;
  }
  button.disabled = false;
});

// ---- the chat ----

const messages = [];
let talking = null;  // aborts what is being answered

function line(kind, text) {
  const node = make('p', {class: kind}, text);
  $('talk').append(node);
  node.scrollIntoView({block: 'nearest'});
  return node;
}

// The events of a stream, as they come.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    buffer += value;
    for (let end; (end = buffer.indexOf('\n\n')) >= 0; buffer = buffer.slice(end + 2)) {
      const data = buffer.slice(0, end).replace(/^data: /, '');
      if (data !== '[DONE]') yield JSON.parse(data);
    }
  }
}

async function answerTo(node, signal) {
  const answer = await ask('v1/chat/completions', {
    method: 'POST', signal, headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({messages, stream: true, max_tokens: 512}),
  });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  for await (const event of events(answer.body)) {
    if (event.error) throw new Error(event.error.message);
    for (const choice of event.choices) node.textContent += choice.delta.content ?? '';
    node.scrollIntoView({block: 'nearest'});
  }
}

$('chat').addEventListener('submit', async event => {
  event.preventDefault();
  const text = $('say').value.trim();
  if (text === '' || talking !== null) return;
  $('say').value = '';
  line('user', text);
  messages.push({role: 'user', content: text});
  const node = line('assistant', '');
  talking = new AbortController();
  $('send').hidden = true;
  $('stop').hidden = false;
  try {
    await answerTo(node, talking.signal);
  } catch (error) {
    if (error.name !== 'AbortError') line('wrong', error.message);
  }
  if (node.textContent === '') messages.pop();
  else messages.push({role: 'assistant', content: node.textContent});
  talking = null;
  $('send').hidden = false;
  $('stop').hidden = true;
});

$('stop').addEventListener('click', () => talking?.abort());

refresh();
