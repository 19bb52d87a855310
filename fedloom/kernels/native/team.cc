#include "team.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#if defined(__x86_64__)
#define FEDLOOM_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define FEDLOOM_PAUSE() asm volatile("yield")
#else
#define FEDLOOM_PAUSE() ((void)0)
#endif

namespace fedloom {
namespace {

constexpr int kSpins = 20'000;  // tens of microseconds: kernels follow each other closely; then a thread sleeps
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

class Threads final : public Team {
 public:
  explicit Threads(long size) : size_(size) {
    for (long member = 1; member < size; member++) std::thread([this, member] { serve(member); }).detach();
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
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; spins++) spins < kSpins ? FEDLOOM_PAUSE() : std::this_thread::yield();
  }

  void lead(Work work, void* context, size_t scratch_floats) {
    scratch_ = memory_.get(scratch_floats);
    work_ = work;
    context_ = context;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      run_.fetch_add(1, std::memory_order_release);
    }
    woken_.notify_all();
    work(context, *this, 0);
    barrier();
  }

  std::mutex taken;  // by the caller that has the threads

 private:
  void serve(long member) {
    for (unsigned seen = 0;; seen++) {
      for (int spins = 0; spins < kSpins && run_.load(std::memory_order_acquire) == seen; spins++) FEDLOOM_PAUSE();
      if (run_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        woken_.wait(lock, [&] { return run_.load(std::memory_order_acquire) != seen; });
      }
      work_(context_, *this, member);
      barrier();
    }
  }

  const long size_;
  Scratch memory_;
  Work work_ = nullptr;
  void* context_ = nullptr;
  std::atomic<unsigned> run_{0}, phase_{0};
  std::atomic<long> arrived_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
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
    std::unique_lock<std::mutex> lock(team->taken, std::try_to_lock);
    if (lock.owns_lock()) return team->lead(work, context, scratch_floats);
  }
  thread_local TeamOfOne one;
  one.lead(work, context, scratch_floats);
}

}  // namespace fedloom
