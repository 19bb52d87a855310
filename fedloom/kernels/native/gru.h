// A GRU over a sequence. Every member of the team has some of the units from the first step to the last, so that its share of the recurrent
// matrix stays in its cache; the members meet once per step (twice where the reset gate acts before the product).
#pragma once

#include "bfloat16.h"
#include "kernels.h"

namespace fedloom::FEDLOOM_ISA {

// Where a step begins, of those that a member does one after the other: at the end where the step before stopped, whose weights are in the cache.
FEDLOOM_INLINE long snake(const Share& own, long turn, long t) { return t % 2 ? own.begin + own.end - 1 - turn : turn; }

// Forward: the three gates of one vector of units are a panel, so that a unit's gates are complete when its products are.
template <typename Form>
struct GruForwardPass {
  using Left = typename Form::Left;
  using Cell = typename Form::Cell;

  const GruForward& g;
  Team& team;
  const long member;
  const long units = g.units, row = 3 * units, depth = steps_of<Form>(units), panel_size = depth * 3 * kLanes;
  const Share own{tiles(units, kLanes), member, team.size()};
  Cell* const panels = reinterpret_cast<Cell*>(team.scratch());
  // What is multiplied at an even and at an odd step, then r * h: (batch, depth) each, and empty if nothing has to be packed.
  Left* const lefts = reinterpret_cast<Left*>(team.scratch() + tiles(units, kLanes) * panel_size);
  const long left_size = g.batch * depth;
  Left* const reset = lefts + (Form::kAsItIs ? 0 : 2 * left_size);

  const float* before(long t) const { return t == 0 ? g.h0 : g.hidden + (t - 1) * g.batch * units; }

  const float* input(long n, long unit) const { return g.x + (g.ids ? g.ids[n] : n) * row + unit; }

  const Left* multiplied(long t) const {
    if constexpr (Form::kAsItIs)
      return before(t);
    else
      return lefts + t % 2 * left_size;
  }

  void keep_state(long t, long i, long unit, long count, Vec state) const {
    if constexpr (!Form::kAsItIs) Form::keep(state, count, lefts + t % 2 * left_size + i * depth + unit / Form::kDepth);
  }

  void begin() const {
    for (long tile = own.begin; tile < own.end; tile++) {
      const long unit = tile * kLanes, count = least(units - unit, kLanes);
      for (long i = 0; i < g.batch; i++) keep_state(0, i, unit, count, load(g.h0 + i * units + unit, count));
    }
  }

  FEDLOOM_INLINE void end_of_step(long t, long i, long unit, long count, Vec z, Vec r, Vec candidate) const {
    const long at = (t * g.batch + i) * units + unit;
    const Vec state = z * load(before(t) + i * units + unit, count) + (1.f - z) * candidate;
    store(g.candidate + at, candidate, count);
    store(g.hidden + at, state, count);
    keep_state(t + 1, i, unit, count, state);
  }

  void reset_after() const {
    for (long tile = own.begin; tile < own.end; tile++)
      for (long gate = 0; gate < 3; gate++)
        pack_in<Form>(g.kernel + gate * units, row, units, tile * kLanes, units, panels + tile * panel_size + gate * kLanes, 3 * kLanes);
    begin();
    team.barrier();

    for (long t = 0; t < g.steps; t++) {
      for (long turn = own.begin; turn < own.end; turn++) {
        const long tile = snake(own, turn, t), unit = tile * kLanes, count = least(units - unit, kLanes);
        const Vec bias[3] = {load(g.bias + unit, count), load(g.bias + units + unit, count), load(g.bias + 2 * units + unit, count)};
        for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
          constexpr int M = decltype(rows)::count;
          Vec sums[M][3];
          clear(sums);
          multiply_in<Form>(multiplied(t) + first * depth, depth, 1, panels + tile * panel_size, depth, sums);
          for (long i = first; i < first + M; i++) {
            const Vec(&sum)[3] = sums[i - first];
            const float* const x = input(t * g.batch + i, unit);
            const long at = (t * g.batch + i) * units + unit;
            const Vec z = sigmoid(load(x, count) + (sum[0] + bias[0]));
            const Vec r = sigmoid(load(x + units, count) + (sum[1] + bias[1]));
            const Vec inner = sum[2] + bias[2];
            store(g.z + at, z, count);
            store(g.r + at, r, count);
            store(g.inner + at, inner, count);
            end_of_step(t, i, unit, count, z, r, hyperbolic_tangent(load(x + 2 * units, count) + r * inner));
          }
        });
      }
      team.barrier();
    }
  }

  void reset_before() const {  // panels: two vectors of gates, then one of candidates
    const long candidates = depth * 2 * kLanes;
    for (long tile = own.begin; tile < own.end; tile++) {
      Cell* const panel = panels + tile * panel_size;
      for (long gate = 0; gate < 2; gate++)
        pack_in<Form>(g.kernel + gate * units, row, units, tile * kLanes, units, panel + gate * kLanes, 2 * kLanes);
      pack_in<Form>(g.kernel + 2 * units, row, units, tile * kLanes, units, panel + candidates, kLanes);
    }
    begin();
    team.barrier();

    for (long t = 0; t < g.steps; t++) {
      for (long turn = own.begin; turn < own.end; turn++) {
        const long tile = snake(own, turn, t), unit = tile * kLanes, count = least(units - unit, kLanes);
        for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
          constexpr int M = decltype(rows)::count;
          Vec sums[M][2];
          clear(sums);
          multiply_in<Form>(multiplied(t) + first * depth, depth, 1, panels + tile * panel_size, depth, sums);
          for (long i = first; i < first + M; i++) {
            const float* const x = input(t * g.batch + i, unit);
            const long at = (t * g.batch + i) * units + unit;
            const Vec r = sigmoid(load(x + units, count) + sums[i - first][1]);
            store(g.z + at, sigmoid(load(x, count) + sums[i - first][0]), count);
            store(g.r + at, r, count);
            Form::keep(r * load(before(t) + i * units + unit, count), count, reset + i * depth + unit / Form::kDepth);
          }
        });
      }
      team.barrier();
      for (long turn = own.begin; turn < own.end; turn++) {
        const long tile = snake(own, turn, t), unit = tile * kLanes, count = least(units - unit, kLanes);
        for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
          constexpr int M = decltype(rows)::count;
          Vec sums[M][1];
          clear(sums);
          multiply_in<Form>(reset + first * depth, depth, 1, panels + tile * panel_size + candidates, depth, sums);
          for (long i = first; i < first + M; i++) {
            const long at = (t * g.batch + i) * units + unit;
            const Vec candidate = hyperbolic_tangent(load(input(t * g.batch + i, unit) + 2 * units, count) + sums[i - first][0]);
            end_of_step(t, i, unit, count, load(g.z + at, count), load(g.r + at, count), candidate);
          }
        });
      }
      team.barrier();
    }
  }
};

inline void gru_forward(const GruForward& g, Team& team, long member) {
  const auto run = [&](auto pass) { g.reset_after ? pass.reset_after() : pass.reset_before(); };
  g.bfloat16 ? run(GruForwardPass<Bfloat16>{g, team, member}) : run(GruForwardPass<Float32>{g, team, member});
}

// Backward: a panel is two vectors of units wide and as deep as the gates; dh stays with the member that owns the units.
template <typename Form>
struct GruBackwardPass {
  using Left = typename Form::Left;
  using Cell = typename Form::Cell;
  static constexpr long kWidth = 2 * kLanes;

  const GruBackward& g;
  Team& team;
  const long member;
  const long units = g.units, row = 3 * units, depth = steps_of<Form>(units), gate_size = depth * kWidth, panel_size = 3 * gate_size;
  const Share own{tiles(units, kWidth), member, team.size()};
  const long unit_begin = least(own.begin * kWidth, units), unit_end = least(own.end * kWidth, units);
  Cell* const panels = reinterpret_cast<Cell*>(team.scratch());
  // What is multiplied at an even and at an odd step, (batch, 3 depth) each; empty if nothing has to be packed.
  Left* const lefts = reinterpret_cast<Left*>(team.scratch() + tiles(units, kWidth) * panel_size);

  const float* before(long t) const { return t == 0 ? g.h0 : g.hidden + (t - 1) * g.batch * units; }

  const Left* multiplied(long t, long gate) const {
    if constexpr (Form::kAsItIs)
      return g.d_inner + t * g.batch * row + gate * units;
    else
      return lefts + t % 2 * g.batch * 3 * depth + gate * depth;
  }

  FEDLOOM_INLINE void keep_gate(long t, long i, long gate, long unit, long count, Vec value) const {
    store(g.d_inner + (t * g.batch + i) * row + gate * units + unit, value, count);
    if constexpr (!Form::kAsItIs) Form::keep(value, count, lefts + (t % 2 * g.batch + i) * 3 * depth + gate * depth + unit / Form::kDepth);
  }

  FEDLOOM_INLINE void keep_input(long t, long i, long gate, long unit, long count, Vec value) const {
    const long n = t * g.batch + i;
    float* const dx = g.dx + (g.ids ? g.ids[n] : n) * row + gate * units + unit;
    store(dx, g.ids ? load(dx, count) + value : value, count);
  }

  void pack_gate(long gate, long tile, Cell* panel) const {
    for (long half = 0; half < 2; half++)
      pack_transposed_in<Form>(g.kernel + gate * units, row, units, tile * kWidth + half * kLanes, units, panel + half * kLanes, kWidth);
  }

  void begin() const {
    const size_t bytes = (unit_end - unit_begin) * sizeof(float);
    for (long i = 0; i < g.batch; i++) memset(g.dh0 + i * units + unit_begin, 0, bytes);
    for (long n = 0; g.ids && n < 3 * g.ids_below; n++) memset(g.dx + n * units + unit_begin, 0, bytes);
  }

  // Calls `combine(i, unit, count, sum)` with the products of `gates` gates from `gate` on with the panels at `offset`.
  template <typename Combine>
  FEDLOOM_INLINE void multiply_back(long t, long gate, long gates, long offset, const Combine& combine) const {
    const long left_row = 3 * depth;
    for (long turn = own.begin; turn < own.end; turn++) {
      const long tile = snake(own, turn, t);
      for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Vec sums[M][2];
        clear(sums);
        multiply_in<Form>(multiplied(t, gate) + first * left_row, left_row, 1, panels + tile * panel_size + offset, gates * depth, sums);
        for (int i = 0; i < M; i++)
          for (long half = 0; half < 2; half++) {
            const long unit = tile * kWidth + half * kLanes;
            if (unit < units) combine(first + i, unit, least(units - unit, kLanes), sums[i][half]);
          }
      });
    }
  }

  FEDLOOM_INLINE void add_to_state(long i, long unit, long count, Vec value) const {
    float* const dh = g.dh0 + i * units + unit;
    store(dh, load(dh, count) + value, count);
  }

  void reset_after() const {
    for (long tile = own.begin; tile < own.end; tile++)
      for (long gate = 0; gate < 3; gate++) pack_gate(gate, tile, panels + tile * panel_size + gate * gate_size);
    begin();
    for (long t = g.steps - 1; t >= 0; t--) {
      for (long i = 0; i < g.batch; i++)
        for (long unit = unit_begin; unit < unit_end; unit += kLanes) {
          const long count = least(unit_end - unit, kLanes), at = (t * g.batch + i) * units + unit;
          const Vec z = load(g.z + at, count), r = load(g.r + at, count), candidate = load(g.candidate + at, count);
          const Vec dh = load(g.dh0 + i * units + unit, count) + load(g.grad + at, count);
          const Vec d_candidate = dh * (1.f - z) * (1.f - candidate * candidate);
          const Vec dz = dh * (load(before(t) + i * units + unit, count) - candidate) * z * (1.f - z);
          const Vec dr = d_candidate * load(g.inner + at, count) * r * (1.f - r);
          keep_input(t, i, 0, unit, count, dz);
          keep_input(t, i, 1, unit, count, dr);
          keep_input(t, i, 2, unit, count, d_candidate);
          keep_gate(t, i, 0, unit, count, dz);
          keep_gate(t, i, 1, unit, count, dr);
          keep_gate(t, i, 2, unit, count, d_candidate * r);
          store(g.dh0 + i * units + unit, dh * z, count);
        }
      team.barrier();
      multiply_back(t, 0, 3, 0, [&](long i, long unit, long count, Vec sum) __attribute__((always_inline)) {
        add_to_state(i, unit, count, sum);
      });
    }
  }

  void reset_before() const {  // panels: of the candidates, then of the two gates; what enters the products is the gradient of the input
    for (long tile = own.begin; tile < own.end; tile++)
      for (long gate = 0; gate < 3; gate++) pack_gate(gate, tile, panels + tile * panel_size + (gate + 1) % 3 * gate_size);
    begin();
    for (long t = g.steps - 1; t >= 0; t--) {
      for (long i = 0; i < g.batch; i++)
        for (long unit = unit_begin; unit < unit_end; unit += kLanes) {
          const long count = least(unit_end - unit, kLanes), at = (t * g.batch + i) * units + unit;
          const Vec z = load(g.z + at, count), candidate = load(g.candidate + at, count);
          const Vec dh = load(g.dh0 + i * units + unit, count) + load(g.grad + at, count);
          const Vec dz = dh * (load(before(t) + i * units + unit, count) - candidate) * z * (1.f - z);
          const Vec d_candidate = dh * (1.f - z) * (1.f - candidate * candidate);
          keep_gate(t, i, 0, unit, count, dz);
          keep_gate(t, i, 2, unit, count, d_candidate);
          if (g.ids) keep_input(t, i, 0, unit, count, dz), keep_input(t, i, 2, unit, count, d_candidate);
          store(g.dh0 + i * units + unit, dh * z, count);
        }
      team.barrier();
      multiply_back(t, 2, 1, 0, [&](long i, long unit, long count, Vec d_reset) __attribute__((always_inline)) {
        const Vec r = load(g.r + (t * g.batch + i) * units + unit, count);
        const Vec dr = d_reset * load(before(t) + i * units + unit, count) * r * (1.f - r);
        keep_gate(t, i, 1, unit, count, dr);
        if (g.ids) keep_input(t, i, 1, unit, count, dr);
        add_to_state(i, unit, count, d_reset * r);
      });
      team.barrier();
      multiply_back(t, 0, 2, gate_size, [&](long i, long unit, long count, Vec sum) __attribute__((always_inline)) {
        add_to_state(i, unit, count, sum);
      });
    }
  }
};

inline void gru_backward(const GruBackward& g, Team& team, long member) {
  const auto run = [&](auto pass) { g.reset_after ? pass.reset_after() : pass.reset_before(); };
  g.bfloat16 ? run(GruBackwardPass<Bfloat16>{g, team, member}) : run(GruBackwardPass<Float32>{g, team, member});
}

}  // namespace fedloom::FEDLOOM_ISA
