// A group of ranks that move tensors together: the data plane.
//
// Rules of use. All ranks of a group make the same calls in the same order, from the one thread
// that runs the rank's steps. A call that fails leaves the group unusable: the owner drops it and
// the worker reports itself gone. Work is ordered with the ops of the device the communicator was
// made for. Ranks are values handed to constructors: nobody asks a global who it is.
//
// Tensors lie on the host, or on the device that the communicator was made for (comm/nccl,
// comm/staged), all of one call at one place. A call on the device's tensors is queued like an op:
// what it gives is there for later ops, and for the host after Device::synchronize().
//
// INVARIANT (Row law): all_reduce_sum adds in rank order, element by element: ((x0 + x1) + x2) +
// ... in f32, whatever the size of the message and whoever comes first. So every rank ends with the
// same bits, and a row's sum has the same bits alone and among 512 others. The one exception is
// NCCL on tensors of the device: every rank ends with the same bits, in an order of NCCL's own.
#pragma once

#include <memory>

#include "kernels/base/status.h"
#include "kernels/base/tensor.h"

namespace trireme {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // x becomes the sum of all ranks' x. REQUIRES: kF32, the same shape on every rank.
  virtual Status all_reduce_sum(TensorView x) = 0;

  // all = every rank's rows, in rank order. REQUIRES: all is [size() * mine.rows, mine.cols].
  virtual Status all_gather(ConstTensorView mine, TensorView all) = 0;

  // x becomes root's x.
  virtual Status broadcast(TensorView x, int root) = 0;

  // Point to point, matched in order between two ranks. send may return before x has arrived and
  // never waits for the receiver to call receive for messages below 64 MiB in total under way.
  virtual Status send(ConstTensorView x, int to) = 0;
  virtual Status receive(TensorView x, int from) = 0;

  // Waits until every rank has come here.
  virtual Status barrier() = 0;

  // The ranks that gave the same color, ordered by key, then by rank here. Every rank calls it.
  virtual Result<std::unique_ptr<Communicator>> split(int color, int key) = 0;

  // Whether collectives on tensors of the device may be recorded into a graph of the device, once
  // each has been called without. send and receive may not.
  virtual bool capturable() const { return false; }
  // A recording that holds collectives of this group has just been queued on the device: for those
  // who watch over queued work. Not ok: the group has failed.
  virtual Status queued_recording() { return {}; }
};

}  // namespace trireme
