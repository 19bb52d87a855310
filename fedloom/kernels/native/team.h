// The threads that work on one kernel together. They stay for the life of the process, and are shared by all kernels.
#pragma once

#include <cstddef>

namespace fedloom {

class Team {
 public:
  // What a member does; `member` is 0 .. size - 1, and the caller is member 0.
  using Work = void (*)(void* context, Team& team, long member);

  // Runs `work` on every member and waits for all, with so much scratch memory; callers wait for one another, as two teams on the same cores would
  // wait at every barrier. Results must not depend on the size of a team, which is why kernels split what they compute, never a sum. Throws
  // std::bad_alloc.
  static void run(Work work, void* context, size_t scratch_floats);

  static long threads();           // of a whole team
  static void set_threads(long n);  // from the next run on

  virtual long size() const = 0;
  virtual void barrier() = 0;  // returns when every member has called it

  // Shared by all members, aligned for vectors, with what earlier runs left in it; until the end of the run.
  float* scratch() const { return scratch_; }

 protected:
  ~Team() = default;
  float* scratch_ = nullptr;
};

// The part of `count` items that is this member's, as [begin, end): all parts alike, but for one item.
struct Share {
  Share(long count, long member, long size) : begin(count * member / size), end(count * (member + 1) / size) {}
  long begin, end;
};

}  // namespace fedloom
