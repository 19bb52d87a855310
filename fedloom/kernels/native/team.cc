#include "team.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#if defined(__x86_64__)
#define FEDLOOM_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define FEDLOOM_PAUSE() asm volatile("yield")
#else
#define FEDLOOM_PAUSE() ((void)0)
#endif

namespace fedloom {
namespace {

// A pause is some 25 nanoseconds. A thread that waits for work sleeps soon: its core may be that of XLA's own threads between two kernels.
constexpr int kSpinsForWork = 200;
constexpr int kSpinsAtBarrier = 20'000;
constexpr size_t kAlignment = 64;

// Grows, and is never given back: kernels are called again and again with the same sizes.
class Scratch {
 public:
  ~Scratch() { free(memory_); }

  float* get(size_t floats) {
    const size_t bytes = (floats * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > bytes_) {
      free(memory_);
      bytes_ = 0;
      memory_ = aligned_alloc(kAlignment, bytes);
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return static_cast<float*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

class TeamOfOne final : public Team {
 public:
  long size() const override { return 1; }
  void barrier() override {}

  void lead(Work work, void* context, size_t scratch_floats) {
    scratch_ = memory_.get(scratch_floats);
    work(context, *this, 0);
  }

 private:
  Scratch memory_;
};

// The cores that this process may use, where the system lets a thread choose one.
std::vector<int> cores() {
  std::vector<int> all;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int core = 0; core < CPU_SETSIZE; core++)
      if (CPU_ISSET(core, &set)) all.push_back(core);
#endif
  return all;
}

// One thread sleeps here until it is called.
class Bell {
 public:
  void ring() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      rung_.fetch_add(1, std::memory_order_release);
    }
    woken_.notify_one();
  }

  void wait(unsigned heard) {
    for (int spins = 0; spins < kSpinsForWork; spins++, FEDLOOM_PAUSE())
      if (rung_.load(std::memory_order_acquire) != heard) return;
    std::unique_lock<std::mutex> lock(mutex_);
    woken_.wait(lock, [&] { return rung_.load(std::memory_order_acquire) != heard; });
  }

 private:
  std::atomic<unsigned> rung_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
};

// Where a team has as many members as there are cores, every core has a thread that never leaves it, and the caller stands in for the one of
// the core that it is on. Left to the system, a thread is often woken on the core of its caller, where it waits for the caller to lose its turn
// while another core is idle: a barrier then takes milliseconds.
class Threads final : public Team {
 public:
  explicit Threads(long size) : size_(size), cores_(cores()) {
    if (long(cores_.size()) != size) cores_.clear();
    const long helpers = cores_.empty() ? size - 1 : size;
    bells_ = std::vector<Bell>(helpers);
    for (long helper = 0; helper < helpers; helper++) std::thread([this, helper] { serve(helper); }).detach();
  }

  long size() const override { return size_; }

  void barrier() override {
    const unsigned phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    // A member that lost its core keeps the others waiting: they give theirs away.
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; spins++)
      spins < kSpinsAtBarrier ? FEDLOOM_PAUSE() : std::this_thread::yield();
  }

  void lead(Work work, void* context, size_t scratch_floats) {
    scratch_ = memory_.get(scratch_floats);
    work_ = work;
    context_ = context;
    spared_ = helper_of_this_core();
    for (long helper = 0; helper < long(bells_.size()); helper++)
      if (helper != spared_) bells_[helper].ring();
    work(context, *this, 0);
    barrier();
  }

  std::mutex taken;  // by the caller that has the threads

 private:
  long helper_of_this_core() const {
#if defined(__linux__)
    const int core = sched_getcpu();
    for (size_t i = 0; i < cores_.size(); i++)
      if (cores_[i] == core) return i;
#endif
    return size_ - 1;  // the last one, or none
  }

  void serve(long helper) {
#if defined(__linux__)
    if (!cores_.empty()) {
      cpu_set_t own;
      CPU_ZERO(&own);
      CPU_SET(cores_[helper], &own);
      sched_setaffinity(0, sizeof own, &own);  // of this thread; it may be refused, which costs time only
    }
#endif
    for (unsigned heard = 0;; heard++) {
      bells_[helper].wait(heard);
      work_(context_, *this, helper < spared_ ? helper + 1 : helper);
      barrier();
    }
  }

  const long size_;
  std::vector<int> cores_;
  std::vector<Bell> bells_;
  Scratch memory_;
  Work work_ = nullptr;
  void* context_ = nullptr;
  long spared_ = 0;
  std::atomic<unsigned> phase_{0};
  std::atomic<long> arrived_{0};
};

std::atomic<long> wanted{1};
std::atomic<Threads*> current{nullptr};  // never freed: its threads use it to the end of the process
std::mutex making;

Threads* whole_team() {
  Threads* team = current.load();
  if (team != nullptr && team->size() == wanted.load()) return team;
  std::lock_guard<std::mutex> lock(making);
  team = current.load();
  if (team == nullptr || team->size() != wanted.load()) {
    team = new Threads(wanted.load());
    current.store(team);
  }
  return team;
}

}  // namespace

long Team::threads() { return wanted.load(); }

void Team::set_threads(long n) { wanted.store(n < 1 ? 1 : n); }

void Team::run(Work work, void* context, size_t scratch_floats) {
  if (wanted.load() > 1) {
    Threads* team = whole_team();
    std::lock_guard<std::mutex> lock(team->taken);
    return team->lead(work, context, scratch_floats);
  }
  thread_local TeamOfOne one;
  one.lead(work, context, scratch_floats);
}

}  // namespace fedloom
