"""What jinja2 makes of templates and expressions, as transformers sets it up: the oracle of runtime/chat.

Each case is {"template", "context", "output"}; output null: jinja2 refuses it. The templates of model
families are our own wording of their published formats.
"""

import json

import jinja2
import jinja2.ext
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    """{% generation %}: passes its body through."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_keep"), [], [], body).set_lineno(lineno)

    def _keep(self, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


CONTEXT = {
    "a": 7, "b": -3, "f": 2.5, "s": "Hello, World", "e": "", "u": "naïve — 日本語 🙂", "n": None,
    "t": True, "xs": [3, 1, 2], "ys": ["b", "A", "c"], "d": {"k": 1, "items": 2, "z": [1, {"q": "w"}]},
    "ms": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yo", "n": 2}],
}

EXPRESSIONS = """
a + b|a - b|a * b|a / b|a // b|a % b|a ** 2|-a // 2|b % 5|f * 2|f // 1|7.0 / 2|1e3|1_000|2 ** -1|-7 % 3
-2 ** 2|(1, 2)|(1,)|[]|[1, 'a', none, true, 2.0]|{'a': 1, 'b': [2]}|{}|'a' ~ 1 ~ none|'a' 'b'|"it's"|'q"'
s[0]|s[-1]|s[1:4]|s[::-1]|s[:5]|s[7:]|xs[1:]|xs[::2]|xs[-2:]|u[6]|u[::-1]|s[10:2:-1]|xs[5:]
s.upper()|s.lower()|s.title()|s.capitalize()|s.split(', ')|s.split()|'a  b'.split()|'a,b,c'.split(',', 1)
'a,b,c'.rsplit(',', 1)|s.replace('l', 'L')|s.replace('l', 'L', 1)|s.startswith('He')|s.endswith(('x', 'd'))
' x '.strip()|' x '.lstrip()|' x '.rstrip()|'xxaxx'.strip('x')|s.find('World')|s.find('zzz')|s.count('l')
'-'.join(ys)|'a\\nb\\n\\nc'.splitlines()|'12'.isdigit()|'ab'.isalpha()|'A'.isupper()|s.index('W')
'{} and {}'.format(1, 'x')|'{0}{1}{0}'.format('a', 'b')|'%s-%d' % ('a', 3)|'%%' % ()|'abc'.removeprefix('a')
d.k|d['k']|d.items()|list|d['items']|d.keys()|list|d.values()|list|d.get('k')|d.get('zz')|d.get('zz', 5)|d.z[1].q|d.missing
missing|missing.x|missing['x']|missing()|missing + 1|missing ~ 'x'|missing == none|missing is defined
not missing|missing or 'x'|a and b|a or b|e or 'empty'|n or 0|not a|not e|1 < 2 < 3|1 < 3 < 2|a == 7.0
'a' in 'abc'|'k' in d|3 in xs|9 not in xs|'a' in missing|1 in (1, 2)|none in [none]|true == 1|'1' == 1
a if t|a if e|a if e else 'no'|'x' if a > 5 else 'y'|(a if t else b) + 1|1 if 0 else 2 if 0 else 3
s|length|xs|length|d|length|u|length|xs|first|xs|last|[]|first|s|first|xs|sum|xs|min|xs|max|xs|sort
ys|sort|ys|sort(case_sensitive=true)|ys|sort(reverse=true)|ms|sort(attribute='role')|xs|reverse|list|s|reverse
xs|join|xs|join(', ')|ms|join(',', attribute='role')|ys|map('upper')|list|ms|map(attribute='role')|list
ms|map(attribute='n', default=0)|list|ms|selectattr('role', 'equalto', 'user')|list
ms|rejectattr('n')|list|ms|selectattr('n', 'defined')|list|xs|select('gt', 1)|list|xs|reject('odd')|list
xs|select|list|d|dictsort|d|items|list|d|tojson|xs|tojson|s|tojson|u|tojson|n|tojson|f|tojson|d|tojson(indent=2)
d|tojson(sort_keys=true)|d|tojson(separators=(',', ':'))|'<a&b>'|tojson|'\\n\\t"\\\\'|tojson|[]|tojson|{}|tojson(indent=1)
1e100|tojson|0.1|tojson|1e-7|100000000000000000000.0|1.0|-0.5|123456789.123|e|default('x')|e|default('x', true)
missing|default('x')|missing|d('y')|n|default('z')|' a '|trim|'xax'|trim('x')|s|upper|s|title|'abc'|capitalize
s|replace('o', '0')|'a\\nb'|indent|'a\\nb'|indent(2, true)|'a\\n\\nb'|indent(2)|'42'|int|'x'|int|'x'|int(5)|4.9|int
'1.5'|float|'x'|float|2.5|round|3.5|round|2.567|round(2)|2.1|round(method='ceil')|-5|abs|f|string|a|string|xs|string
ys|unique|list|[1, 1, 2]|unique|list|xs|batch(2)|list|'a b c'|wordcount|'<b>'|escape|s|list|{'b': 1, 'a': 2}|list
a is odd|a is even|a is divisibleby 7|a is number|f is float|a is integer|s is string|xs is sequence|d is mapping
s is iterable|a is iterable|n is none|n is not none|t is true|t is boolean|e is defined|missing is undefined
a is eq 7|a is ne 7|a is lt 8|a is gt 8|a is sameas a|'a' is in ys|a is in [7]|range is callable|a is nosuch|a|nosuch
range(3)|list|range(1, 7, 2)|list|range(3, 0, -1)|list|dict(a=1, b=2)|namespace(x=1).x|1 + 'a'|'a' + 1|'a' * 3|[0] * 3
xs + [9]|(1, 2) + (3,)|1 / 0|1 // 0|1 % 0|s.nosuch|s.nosuch()|a.b|xs.nosuch|none.x|5 < 'a'|[1] < [2]|'a' < 'b'
true|false|none|True|None|'\\u00e9'|'\\x41'|'a\\'b'|a|string|length|(a)|((a))|[a, b][0]|{'x': a}.x|{'x': a}['x']
xs[0] + xs[1]|s.split(',')[1].strip()|(s ~ '!')|length|ms[0]['content']|trim|ms[-1].role|not 1 == 2|not (1 == 2)
1 == 1 and 2 == 2|1 or 1/0|0 and 1/0|a > b and not b > a|'x' ~ (1 if t else 2) ~ 'y'|-a|+a|- -a|a - -b|2 * 3 + 4|2 + 3 * 4
10 // 3 * 3|2 ** 3 ** 1|'a' ~ 'b' + 'c'|1.5 + 1|7 // 2.0|7 % 2.5|True + 1|raise_exception('no')|xs.index(2)|xs.count(1)
'abc'[1]|'abc'[5]|xs[10]|d[1]|s[a]|xs['a']|loop|xs|map('nosuch')|list|'%d' % 'a'|''.join([])
"""

STATEMENTS = [
    "{% for x in xs %}{{ x }},{% endfor %}",
    "{% for x in xs %}\n  {{ x }}\n{% endfor %}\nend",
    "  {% if a %}\n  yes\n  {% endif %}\n",
    "a {%- if t %} b {%- endif %} c",
    "a  {{- a -}}  b",
    "{% for x in xs if x > 1 %}{{ loop.index }}:{{ x }}{{ '' if loop.last else ', ' }}{% else %}none{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in xs %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in xs %}{{ loop.previtem }}-{{ x }}-{{ loop.nextitem }};{% endfor %}",
    "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in xs %}{% set y = x %}{% endfor %}{{ y }}",
    "{% set y = 1 %}{% for x in xs %}{% set y = y + x %}{{ y }} {% endfor %}{{ y }}",
    "{% set ns = namespace(y=0) %}{% for x in xs %}{% set ns.y = ns.y + x %}{% endfor %}{{ ns.y }}",
    "{% set x, y = 1, 2 %}{{ x }}{{ y }}",
    "{% set x %}block {{ a }}{% endset %}[{{ x }}]",
    "{% set x | upper %}block {{ a }}{% endset %}[{{ x }}]",
    "{% macro m(x, y=2) %}({{ x }},{{ y }}){% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(y=5, x=4) }}",
    "{% macro m(x) %}{{ caller() }}{{ x }}{% endmacro %}{% call m(1) %}in{% endcall %}",
    "{% macro m() %}{{ caller('p') }}{% endmacro %}{% call(v) m() %}got {{ v }}{% endcall %}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro m() %}{{ a }}{% endmacro %}{{ m() | length }}",
    "{% filter upper %}abc{{ s }}{% endfilter %}",
    "{% if a > 100 %}1{% elif a > 5 %}2{% else %}3{% endif %}",
    "{% raw %}{{ not }} {% this %}{% endraw %}",
    "{% raw -%}\n x {%- endraw %}|",
    "{# comment #}a{#- c -#} b",
    "x\n{# comment #}\ny",
    "x\n   {# comment #}   \ny",
    "{% with p = 1, q = 2 %}{{ p + q }}{% endwith %}{{ p }}",
    "{% generation %}kept{% endgeneration %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for x in [[1, [2, 3]], [4, []]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}",
    "{%- for m in ms -%}\n{{ m.role }}: {{ m.content | trim }}\n{% endfor -%}  z",
    "line\n\n{% if t %}\n\nx{% endif %}\n\n",
    "{{ a }}\n",
    "{{ a }}\n\n",
    "a\n  {%+ if t %}b{% endif %}",
    "{% if t +%}\nb{% endif %}",
    "{{ {'a': {'b': 1}}.a.b }}",
    "{{ '{{' }}{{ '}}' }}",
    "{{ '%}' }}",
    "{% set x = [1, 2] %}{{ x }}{% set x = x + [3] %}{{ x }}",
    "{% if missing %}a{% endif %}{% if missing is not defined %}b{% endif %}",
    "{% set a = 1 if t else 2 %}{{ a }}",
    "{% for c in 'abc' %}{{ c }}.{% endfor %}",
    "{% for x in missing %}x{% else %}e{% endfor %}",
    "{% for x in 5 %}x{% endfor %}",
    "{% for %}x{% endfor %}",
    "{% if %}x{% endif %}",
    "{% if a %}x",
    "{% endif %}",
    "{{ a",
    "{{ }}",
    "{% nosuch %}",
    "{{ a b }}",
    "{{ 'abc }}",
    "{{ (1 }}",
    "{% set %}",
    "{% macro m(x %}{% endmacro %}",
    "{% break %}",
    "{% set d.x = 1 %}",
    "{% for x in xs %}{{ loop.index }}{% endfor %}{{ loop }}",
    "{%if a%}x{%endif%}",
    "{{a}}{{b}}",
    "\n{% if t %}\n{% if t %}\nx\n{% endif %}\n{% endif %}\n",
    "{% if t %}  \n  x{% endif %}",
    "   {{ a }}   {% if t %}   y   {% endif %}   ",
    "\t{% set q = 1 %}\n\tz",
    "{% set ns = namespace(found=false, n=none) %}{% for m in ms %}{% if m.n %}{% set ns.found = true %}{% set ns.n = m.n %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.n }}",
    "{{ ms | selectattr('role', 'in', ['user']) | map(attribute='content') | map('trim') | join('|') }}",
    "{{ ms | tojson }}",
    "{{ ms | tojson(indent=4) }}",
    "{{ u | upper }}{{ u.title() }}",
]

FAMILIES = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
        "{% endif %}"
    ),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
        "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
        "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
        "{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "llama31": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- system_message }}
{%- if tools is not none %}
    {{- "\\nFunctions you may call, as JSON:\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("only single tool-calls at once") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "qwen": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content or '' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query_index and reasoning %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- if tool_call.function %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "mistral": """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}{{ raise_exception('only user and assistant roles are supported') }}{% endif %}{% endfor %}""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('system role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
    "deepseek": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' + content + eos_token }}{%- endif %}{%- endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}""",
}

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "It's the \"weather\".",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
]
CHATS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Who?\n"},
     {"role": "assistant", "content": "<think>\nhm\n</think>\n\nMe."}, {"role": "user", "content": "Äh 日本?"}],
    [{"role": "user", "content": "w"}, {"role": "assistant", "content": "",
      "tool_calls": [{"id": "c1", "type": "function",
                      "function": {"name": "weather", "arguments": {"city": "Bern", "n": 1.5}}}]},
     {"role": "tool", "content": "sunny", "tool_call_id": "c1"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
]


def run(env, template, context):
    try:
        return env.from_string(template).render(**context)
    except Exception:  # whatever Python raises: the template is refused
        return None


def make(out):
    """Writes out/chat/jinja.json."""
    env = environment()
    cases = []
    expressions = []
    for line in EXPRESSIONS.strip().split("\n"):
        # A '|' stands between expressions and before filters: a part that begins with a filter's name
        # belongs to the expression before it.
        parts = line.split("|")
        filters = set(env.filters) | {"nosuch"}
        for part in parts:
            name = part.split("(")[0].strip()
            if expressions and name in filters and (part == name or part.startswith(name + "(")):
                expressions[-1] += "|" + part
            else:
                expressions.append(part)
    for template in [f"{{{{ {e} }}}}" for e in expressions] + STATEMENTS:
        cases.append({"template": template, "output": run(env, template, CONTEXT)})
    families = []
    for name, template in FAMILIES.items():
        for chat in CHATS:
            for tools in (None, TOOLS):
                for generate in (False, True):
                    context = {"messages": chat, "tools": tools, "add_generation_prompt": generate,
                               "bos_token": "<s>", "eos_token": "</s>"}
                    families.append({"family": name, "chat": CHATS.index(chat), "tools": tools is not None,
                                     "generate": generate, "output": run(env, template, context)})
    golden = {"jinja2": jinja2.__version__, "context": CONTEXT, "cases": cases, "templates": FAMILIES,
              "tools": TOOLS, "chats": CHATS, "families": families}
    folder = out / "chat"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "jinja.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, indent=0)
        file.write("\n")
    refused = sum(c["output"] is None for c in cases)
    return (f"{len(cases)} cases, {refused} refused; {len(families)} chats of {len(FAMILIES)} families")
