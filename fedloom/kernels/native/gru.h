// A GRU over a sequence. Every member of the team has some of the units from the first step to the last, so that its share of the recurrent
// matrix stays in its cache; the members meet once per step (twice where the reset gate acts before the product).
#pragma once

#include "kernels.h"
#include "product.h"

namespace fedloom::FEDLOOM_ISA {

// Forward: the three gates of one vector of units are a panel, so that a unit's gates are complete when its products are.

template <int M>
FEDLOOM_INLINE void gru_state(const GruForward& g, long at, long count, Vec z, Vec r, Vec candidate, const float* before) {
  store(g.z + at, z, count);
  store(g.r + at, r, count);
  store(g.candidate + at, candidate, count);
  store(g.hidden + at, z * load(before, count) + (1.f - z) * candidate, count);
}

inline void gru_forward_reset_after(const GruForward& g, Team& team, long member) {
  const long units = g.units, row = 3 * units, panel_row = 3 * kLanes, panel_size = units * panel_row;
  const Share own(tiles(units, kLanes), member, team.size());
  float* const panels = team.scratch();
  for (long tile = own.begin; tile < own.end; tile++)
    for (long gate = 0; gate < 3; gate++)
      pack(g.kernel + gate * units, row, units, tile * kLanes, units, panels + tile * panel_size + gate * kLanes, panel_row);

  for (long t = 0; t < g.steps; t++) {
    const long step = t * g.batch;
    const float* const before = t == 0 ? g.h0 : g.hidden + (step - g.batch) * units;
    for (long tile = own.begin; tile < own.end; tile++) {
      const long unit = tile * kLanes, count = least(units - unit, kLanes);
      const Vec bias[3] = {load(g.bias + unit, count), load(g.bias + units + unit, count), load(g.bias + 2 * units + unit, count)};
      for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Vec sums[M][3];
        clear(sums);
        multiply(before + first * units, units, panels + tile * panel_size, units, sums);
        for (int i = 0; i < M; i++) {
          const float* const x = g.x + (step + first + i) * row + unit;
          const long at = (step + first + i) * units + unit;
          const Vec z = sigmoid(load(x, count) + (sums[i][0] + bias[0]));
          const Vec r = sigmoid(load(x + units, count) + (sums[i][1] + bias[1]));
          const Vec inner = sums[i][2] + bias[2];
          const Vec candidate = hyperbolic_tangent(load(x + 2 * units, count) + r * inner);
          store(g.inner + at, inner, count);
          gru_state<M>(g, at, count, z, r, candidate, before + (first + i) * units + unit);
        }
      });
    }
    team.barrier();
  }
}

inline void gru_forward_reset_before(const GruForward& g, Team& team, long member) {
  const long units = g.units, row = 3 * units, panel_size = units * 3 * kLanes;  // two vectors of gates, then one of candidates
  const Share own(tiles(units, kLanes), member, team.size());
  float* const panels = team.scratch();
  float* const reset = panels + tiles(units, kLanes) * panel_size;  // r * h of the step
  for (long tile = own.begin; tile < own.end; tile++) {
    float* const panel = panels + tile * panel_size;
    for (long gate = 0; gate < 2; gate++) pack(g.kernel + gate * units, row, units, tile * kLanes, units, panel + gate * kLanes, 2 * kLanes);
    pack(g.kernel + 2 * units, row, units, tile * kLanes, units, panel + units * 2 * kLanes, kLanes);
  }

  for (long t = 0; t < g.steps; t++) {
    const long step = t * g.batch;
    const float* const before = t == 0 ? g.h0 : g.hidden + (step - g.batch) * units;
    for (long tile = own.begin; tile < own.end; tile++) {
      const long unit = tile * kLanes, count = least(units - unit, kLanes);
      for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Vec sums[M][2];
        clear(sums);
        multiply(before + first * units, units, panels + tile * panel_size, units, sums);
        for (int i = 0; i < M; i++) {
          const float* const x = g.x + (step + first + i) * row + unit;
          const long at = (step + first + i) * units + unit;
          const Vec r = sigmoid(load(x + units, count) + sums[i][1]);
          store(g.z + at, sigmoid(load(x, count) + sums[i][0]), count);
          store(g.r + at, r, count);
          store(reset + (first + i) * units + unit, r * load(before + (first + i) * units + unit, count), count);
        }
      });
    }
    team.barrier();
    for (long tile = own.begin; tile < own.end; tile++) {
      const long unit = tile * kLanes, count = least(units - unit, kLanes);
      for_tiles<kRows>(0, g.batch, [&](long first, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Vec sums[M][1];
        clear(sums);
        multiply(reset + first * units, units, panels + tile * panel_size + units * 2 * kLanes, units, sums);
        for (int i = 0; i < M; i++) {
          const long at = (step + first + i) * units + unit;
          const Vec candidate = hyperbolic_tangent(load(g.x + (step + first + i) * row + 2 * units + unit, count) + sums[i][0]);
          gru_state<M>(g, at, count, load(g.z + at, count), load(g.r + at, count), candidate, before + (first + i) * units + unit);
        }
      });
    }
    team.barrier();
  }
}

inline void gru_forward(const GruForward& g, Team& team, long member) {
  g.reset_after ? gru_forward_reset_after(g, team, member) : gru_forward_reset_before(g, team, member);
}

// Backward: a panel is two vectors of units wide and as deep as the gates; dh stays with the member that owns the units.

constexpr long kBackWidth = 2 * kLanes;

inline void pack_back(const float* kernel, long row, long depth, long units, long tile, float* panel) {
  for (long half = 0; half < 2; half++)
    pack_transposed(kernel, row, depth, tile * kBackWidth + half * kLanes, units, panel + half * kLanes, kBackWidth);
}

// to[i] (+)= left[i] * panel, for the `batch` rows and the units of one tile.
template <typename Combine>
FEDLOOM_INLINE void multiply_back(const float* left, long stride, long depth, const float* panel, long batch, long units, long tile,
                                  const Combine& combine) {
  for_tiles<kRows>(0, batch, [&](long first, auto rows) __attribute__((always_inline)) {
    constexpr int M = decltype(rows)::count;
    Vec sums[M][2];
    clear(sums);
    multiply(left + first * stride, stride, panel, depth, sums);
    for (int i = 0; i < M; i++)
      for (long half = 0; half < 2; half++) {
        const long unit = tile * kBackWidth + half * kLanes;
        if (unit < units) combine(first + i, unit, least(units - unit, kLanes), sums[i][half]);
      }
  });
}

inline void gru_backward_reset_after(const GruBackward& g, Team& team, long member) {
  const long units = g.units, row = 3 * units, panel_size = row * kBackWidth;
  const Share own(tiles(units, kBackWidth), member, team.size());
  const long unit_begin = least(own.begin * kBackWidth, units), unit_end = least(own.end * kBackWidth, units);
  float* const panels = team.scratch();
  for (long tile = own.begin; tile < own.end; tile++) pack_back(g.kernel, row, row, units, tile, panels + tile * panel_size);
  for (long i = 0; i < g.batch; i++) memset(g.dh0 + i * units + unit_begin, 0, (unit_end - unit_begin) * sizeof(float));

  for (long t = g.steps - 1; t >= 0; t--) {
    const long step = t * g.batch;
    const float* const before = t == 0 ? g.h0 : g.hidden + (step - g.batch) * units;
    for (long i = 0; i < g.batch; i++)
      for (long unit = unit_begin; unit < unit_end; unit += kLanes) {
        const long count = least(unit_end - unit, kLanes), at = (step + i) * units + unit;
        const Vec z = load(g.z + at, count), r = load(g.r + at, count), candidate = load(g.candidate + at, count);
        const Vec dh = load(g.dh0 + i * units + unit, count) + load(g.grad + at, count);
        const Vec d_candidate = dh * (1.f - z) * (1.f - candidate * candidate);
        const Vec dz = dh * (load(before + i * units + unit, count) - candidate) * z * (1.f - z);
        const Vec dr = d_candidate * load(g.inner + at, count) * r * (1.f - r);
        float* const dx = g.dx + (step + i) * row + unit;
        float* const d_inner = g.d_inner + (step + i) * row + unit;
        store(dx, dz, count);
        store(dx + units, dr, count);
        store(dx + 2 * units, d_candidate, count);
        store(d_inner, dz, count);
        store(d_inner + units, dr, count);
        store(d_inner + 2 * units, d_candidate * r, count);
        store(g.dh0 + i * units + unit, dh * z, count);
      }
    team.barrier();
    for (long tile = own.begin; tile < own.end; tile++)
      multiply_back(g.d_inner + step * row, row, row, panels + tile * panel_size, g.batch, units, tile,
                    [&](long i, long unit, long count, Vec sum) __attribute__((always_inline)) {
                      float* const dh = g.dh0 + i * units + unit;
                      store(dh, load(dh, count) + sum, count);
                    });
  }
}

inline void gru_backward_reset_before(const GruBackward& g, Team& team, long member) {
  const long units = g.units, row = 3 * units, panel_size = row * kBackWidth;  // of the candidates, then of the two gates
  const Share own(tiles(units, kBackWidth), member, team.size());
  const long unit_begin = least(own.begin * kBackWidth, units), unit_end = least(own.end * kBackWidth, units);
  float* const panels = team.scratch();
  for (long tile = own.begin; tile < own.end; tile++) {
    float* const panel = panels + tile * panel_size;
    pack_back(g.kernel + 2 * units, row, units, units, tile, panel);
    pack_back(g.kernel, row, 2 * units, units, tile, panel + units * kBackWidth);
  }
  for (long i = 0; i < g.batch; i++) memset(g.dh0 + i * units + unit_begin, 0, (unit_end - unit_begin) * sizeof(float));

  for (long t = g.steps - 1; t >= 0; t--) {
    const long step = t * g.batch;
    const float* const before = t == 0 ? g.h0 : g.hidden + (step - g.batch) * units;
    for (long i = 0; i < g.batch; i++)
      for (long unit = unit_begin; unit < unit_end; unit += kLanes) {
        const long count = least(unit_end - unit, kLanes), at = (step + i) * units + unit;
        const Vec z = load(g.z + at, count), candidate = load(g.candidate + at, count);
        const Vec dh = load(g.dh0 + i * units + unit, count) + load(g.grad + at, count);
        float* const dx = g.dx + (step + i) * row + unit;
        store(dx, dh * (load(before + i * units + unit, count) - candidate) * z * (1.f - z), count);
        store(dx + 2 * units, dh * (1.f - z) * (1.f - candidate * candidate), count);
        store(g.dh0 + i * units + unit, dh * z, count);
      }
    team.barrier();
    for (long tile = own.begin; tile < own.end; tile++)
      multiply_back(g.dx + step * row + 2 * units, row, units, panels + tile * panel_size, g.batch, units, tile,
                    [&](long i, long unit, long count, Vec d_reset) __attribute__((always_inline)) {
                      const long at = (step + i) * units + unit;
                      const Vec r = load(g.r + at, count);
                      float* const dh = g.dh0 + i * units + unit;
                      store(g.dx + (step + i) * row + units + unit, d_reset * load(before + i * units + unit, count) * r * (1.f - r), count);
                      store(dh, load(dh, count) + d_reset * r, count);
                    });
    team.barrier();
    for (long tile = own.begin; tile < own.end; tile++)
      multiply_back(g.dx + step * row, row, 2 * units, panels + tile * panel_size + units * kBackWidth, g.batch, units, tile,
                    [&](long i, long unit, long count, Vec sum) __attribute__((always_inline)) {
                      float* const dh = g.dh0 + i * units + unit;
                      store(dh, load(dh, count) + sum, count);
                    });
  }
}

inline void gru_backward(const GruBackward& g, Team& team, long member) {
  g.reset_after ? gru_backward_reset_after(g, team, member) : gru_backward_reset_before(g, team, member);
}

}  // namespace fedloom::FEDLOOM_ISA
