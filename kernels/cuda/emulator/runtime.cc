// Streams, events, graphs and launches of the emulated runtime.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/base/check.h"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/emulator/launches.h"
#include "kernels/cuda/emulator/memory.h"

namespace {

using trireme::emulator::Touch;
using Clock = std::chrono::steady_clock;

using trireme::emulator::Launch;
using Work = std::variant<std::function<void()>, Launch>;

}  // namespace

struct CUgraph_st {
  std::vector<Work> work;
  bool broken = false;
  cudaStream_t origin = nullptr;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUevent_st {
  int device = 0;
  std::atomic<uint64_t> recorded{0};  // how often; 0: never
  std::atomic<uint64_t> reached{0};   // the record that its stream has passed
  cudaStream_t stream = nullptr;      // of the newest record
  std::shared_ptr<CUgraph_st> graph;  // where the newest record was captured
  Clock::time_point time;
};
struct CUstream_st {
  int device = 0;
  std::mutex mutex;  // guards what stands before `graph`
  std::condition_variable changed;
  std::deque<Work> work;
  bool running = false;               // what was taken from `work` last has not ended
  bool ending = false;                // its thread ends when `work` is empty
  std::shared_ptr<CUgraph_st> graph;  // while it is captured
  std::thread thread;                 // of a stream that runs by itself
};

namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;
thread_local uint64_t schedule_seed = 0;
thread_local bool streams_run_by_themselves = false;
std::atomic<int> device_count{2};
std::atomic<int> multiprocessors{4};
std::atomic<int> capability{trireme::emulator::kHopper};
std::atomic<int> shared_bytes_max{trireme::emulator::kHopperSharedBytes};

// Streams that exist, for cudaDeviceSynchronize; those of this host thread.
thread_local std::vector<cudaStream_t> streams;
CUstream_st& default_stream() {
  thread_local CUstream_st stream;
  return stream;
}
CUstream_st& of(cudaStream_t stream) { return stream != nullptr ? *stream : default_stream(); }

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

// Queues work, or writes it into the graph that is captured.
cudaError_t enqueue(cudaStream_t stream, Work work) {
  CUstream_st& s = of(stream);
  if (s.graph != nullptr) {
    s.graph->work.push_back(std::move(work));
    return cudaSuccess;
  }
  {
    const std::scoped_lock lock(s.mutex);
    s.work.push_back(std::move(work));
  }
  s.changed.notify_all();
  return cudaSuccess;
}

// Runs the oldest piece of work, or the kernels that come before anything else, without the lock.
void run_front(CUstream_st& s, std::unique_lock<std::mutex>& lock) {
  std::vector<Launch> launches;
  while (!s.work.empty() && std::holds_alternative<Launch>(s.work.front())) {
    launches.push_back(std::get<Launch>(std::move(s.work.front())));
    s.work.pop_front();
  }
  std::function<void()> other;
  if (launches.empty()) {
    other = std::get<std::function<void()>>(std::move(s.work.front()));
    s.work.pop_front();
  }
  s.running = true;
  lock.unlock();
  if (other) other();
  trireme::emulator::run_launches(launches);
  lock.lock();
  s.running = false;
  s.changed.notify_all();
}

// The thread of a stream that runs by itself.
void run_by_itself(CUstream_st& s) {
  std::unique_lock lock(s.mutex);
  for (;;) {
    s.changed.wait(lock, [&] { return s.ending || !s.work.empty(); });
    if (s.work.empty()) return;
    lock.unlock();
    const Touch touch;
    lock.lock();
    run_front(s, lock);
  }
}

// Waits until `done`, or until the stream is empty: runs what it holds, or lets its thread do so.
void run(CUstream_st& s, const std::function<bool()>& done) {
  std::unique_lock lock(s.mutex);
  if (s.thread.joinable()) {
    s.changed.wait(lock, [&] { return done() || (s.work.empty() && !s.running); });
    return;
  }
  while (!s.work.empty() && !done()) run_front(s, lock);
}

cudaError_t finish(cudaStream_t stream) {
  CUstream_st& s = of(stream);
  if (s.graph != nullptr) {
    s.graph->broken = true;
    return note(cudaErrorStreamCaptureUnsupported);
  }
  const Touch touch;
  run(s, [] { return false; });
  return cudaSuccess;
}

// True while some stream of this thread is captured: calls that wait or allocate break the capture.
bool breaks_capture() {
  bool any = false;
  for (cudaStream_t s : streams) {
    if (s->graph == nullptr) continue;
    s->graph->broken = true;
    any = true;
  }
  return any;
}

void wait_for(CUevent_st& event, uint64_t record) {
  if (event.reached.load() >= record || event.stream == nullptr) return;
  run(*event.stream, [&] { return event.reached.load() >= record; });
}

std::map<const void*, int>& shared_limits() {
  static auto* limits = new std::map<const void*, int>;
  return *limits;
}
std::mutex& shared_limits_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}
constexpr int kSharedBytesDefault = 48 << 10;

}  // namespace

namespace trireme::emulator {

void set_schedule(uint64_t seed) { schedule_seed = seed; }
void set_device_count(int count) { device_count = count; }
void set_multiprocessors(int count) { multiprocessors = count; }
void set_gpu_kind(int new_capability, int new_shared_bytes_max) {
  capability = new_capability;
  shared_bytes_max = new_shared_bytes_max;
}
int gpu_capability() { return capability; }
void set_streams_run_by_themselves(bool on) { streams_run_by_themselves = on; }

cudaError_t allow_shared_bytes(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > shared_bytes_max) return note(cudaErrorInvalidValue);
  const std::scoped_lock lock(shared_limits_mutex());
  shared_limits()[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   std::function<void()> body) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  if (threads == 0 || threads > 1024 || b.z > 64) return note(cudaErrorInvalidConfiguration);
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return note(cudaErrorInvalidConfiguration);
  int limit = kSharedBytesDefault;
  {
    const std::scoped_lock lock(shared_limits_mutex());
    const auto found = shared_limits().find(kernel);
    if (found != shared_limits().end()) limit = std::max(limit, found->second);
  }
  limit = std::min(limit, shared_bytes_max.load());  // a limit may be another GPU's
  if (config.dynamicSmemBytes > static_cast<size_t>(limit)) return note(cudaErrorInvalidValue);
  // A thread that has not chosen the GPU of its stream: each has GPU 0 until it does.
  if (config.stream != nullptr && config.stream->device != current_device)
    return note(cudaErrorInvalidResourceHandle);
  bool overlaps = false;
  for (unsigned int i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization)
      overlaps = attribute.val.programmaticStreamSerializationAllowed != 0;
  }
  if (overlaps && capability < kHopper) return note(cudaErrorInvalidValue);
  return enqueue(config.stream,
                 Launch{g, b, config.dynamicSmemBytes, schedule_seed, overlaps, std::move(body)});
}

}  // namespace trireme::emulator

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorUnknown:
      break;
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  // Without a driver the count is left as it was.
  if (device_count == 0) return note(cudaErrorInsufficientDriver);
  *count = device_count;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count) return note(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= device_count) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated GPU");
  properties->totalGlobalMem = trireme::emulator::device_bytes_total();
  properties->sharedMemPerBlockOptin = static_cast<size_t>(shared_bytes_max);
  properties->major = capability / 10;
  properties->minor = capability % 10;
  properties->multiProcessorCount = multiprocessors;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= device_count) return note(cudaErrorInvalidDevice);
  std::snprintf(text, static_cast<size_t>(length), "0000:%02x:00.0", 0x10 + device);
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device_count == 0 ? 0 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  if (breaks_capture()) return note(cudaErrorStreamCaptureUnsupported);
  for (cudaStream_t s : streams) finish(s);
  return finish(nullptr);
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (breaks_capture()) return note(cudaErrorStreamCaptureUnsupported);
  *pointer = trireme::emulator::allocate_device(bytes);
  return note(*pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  if (breaks_capture()) return note(cudaErrorStreamCaptureUnsupported);
  cudaDeviceSynchronize();  // as the real one does
  return note(trireme::emulator::free_device(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  if (breaks_capture()) return note(cudaErrorStreamCaptureUnsupported);
  *pointer = trireme::emulator::allocate_pinned(bytes);
  return note(*pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  cudaDeviceSynchronize();
  return note(trireme::emulator::free_pinned(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = trireme::emulator::device_bytes_total();
  *free = *total - trireme::emulator::device_bytes_used();
  return cudaSuccess;
}

// Pageable host memory is read before the call returns (and may be written again by the caller);
// pinned memory is read when the copy runs. Into pageable memory the call waits, as the real one
// does.
cudaError_t cudaMemcpy2DAsync(void* target, size_t target_pitch, const void* source,
                              size_t source_pitch, size_t width, size_t height, cudaMemcpyKind,
                              cudaStream_t stream) {
  using trireme::emulator::is_device;
  using trireme::emulator::is_pinned;
  if (width == 0 || height == 0) return cudaSuccess;
  if (width > target_pitch || width > source_pitch) return note(cudaErrorInvalidValue);
  auto* to = static_cast<std::byte*>(target);
  const auto* from = static_cast<const std::byte*>(source);
  const bool pageable_source = !is_device(source) && !is_pinned(source);
  const bool pageable_target = !is_device(target) && !is_pinned(target);
  if ((pageable_source || pageable_target) && of(stream).graph != nullptr) {
    of(stream).graph->broken = true;
    return note(cudaErrorStreamCaptureUnsupported);
  }
  if (pageable_source) {
    auto staged = std::make_shared<std::vector<std::byte>>(width * height);
    for (size_t r = 0; r < height; ++r)
      std::memcpy(staged->data() + r * width, from + r * source_pitch, width);
    enqueue(stream, [=] {
      for (size_t r = 0; r < height; ++r)
        std::memcpy(to + r * target_pitch, staged->data() + r * width, width);
    });
  } else {
    enqueue(stream, [=] {
      for (size_t r = 0; r < height; ++r)
        std::memmove(to + r * target_pitch, from + r * source_pitch, width);
    });
  }
  return pageable_target ? finish(stream) : cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(target, bytes, source, bytes, bytes, 1, kind, stream);
}
cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  if (bytes > 0 && !trireme::emulator::is_device(target)) return note(cudaErrorInvalidValue);
  return enqueue(stream, [=] { std::memset(target, value, bytes); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  *stream = new CUstream_st;
  (*stream)->device = current_device;
  streams.push_back(*stream);
  CUstream_st& s = **stream;
  if (streams_run_by_themselves) s.thread = std::thread([&s] { run_by_itself(s); });
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  finish(stream);
  {
    const std::scoped_lock lock(stream->mutex);
    stream->ending = true;
  }
  stream->changed.notify_all();
  if (stream->thread.joinable()) stream->thread.join();
  streams.erase(std::remove(streams.begin(), streams.end(), stream), streams.end());
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return finish(stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  CUstream_st& s = of(stream);
  const std::scoped_lock lock(s.mutex);
  return s.work.empty() && !s.running ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  if (event->recorded.load() == 0) return cudaSuccess;
  CUstream_st& s = of(stream);
  if (event->graph != nullptr) {  // captured: this stream joins the capture
    if (s.graph != nullptr && s.graph != event->graph) return note(cudaErrorInvalidValue);
    s.graph = event->graph;
    return cudaSuccess;
  }
  if (event->stream == stream) return cudaSuccess;
  return enqueue(stream, [event, record = event->recorded.load()] { wait_for(*event, record); });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return enqueue(stream, [=] { function(data); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  (*event)->device = current_device;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event->graph == nullptr) wait_for(*event, event->recorded.load());
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  CUstream_st& s = of(stream);
  if (stream != nullptr && event->device != s.device) return note(cudaErrorInvalidResourceHandle);
  event->graph = s.graph;
  event->stream = &s;
  const uint64_t record = event->recorded.fetch_add(1) + 1;
  if (s.graph != nullptr) return cudaSuccess;  // an edge of the graph
  return enqueue(stream, [event, record] {
    event->time = Clock::now();
    event->reached = record;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event->reached.load() >= event->recorded.load() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->graph != nullptr) return note(cudaErrorStreamCaptureUnsupported);
  const Touch touch;
  wait_for(*event, event->recorded.load());
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (cudaEventQuery(start) != cudaSuccess || cudaEventQuery(end) != cudaSuccess)
    return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->graph != nullptr) return note(cudaErrorStreamCaptureUnsupported);
  stream->graph = std::make_shared<CUgraph_st>();
  stream->graph->origin = stream;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  static thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeThreadLocal;
  std::swap(*mode, current);  // captures are this thread's own here: another thread breaks none
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || stream->graph == nullptr || stream->graph->origin != stream)
    return note(cudaErrorInvalidValue);
  const std::shared_ptr<CUgraph_st> captured = stream->graph;
  for (cudaStream_t s : streams) {
    if (s->graph == captured) s->graph = nullptr;
  }
  if (captured->broken) return note(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{captured->work, false, nullptr};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const auto& graph = of(stream).graph;
  *status = graph == nullptr ? cudaStreamCaptureStatusNone
            : graph->broken  ? cudaStreamCaptureStatusInvalidated
                             : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  enqueue(stream, [] {});  // the graph's first kernel waits for all before it
  for (const Work& work : exec->work) enqueue(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
