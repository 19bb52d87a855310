// An LSTM over a sequence. As in `gru.h`, every member of the team has some of the units from the first step to the last, and the members meet
// once per step.
#pragma once

#include "kernels.h"
#include "product.h"

namespace fedloom::FEDLOOM_ISA {

constexpr int kLstmRows = kRows / 2;  // times the four gates

// Forward: the four gates of one vector of units are a panel, so that a unit's gates are complete when its products are.
inline void lstm_forward(const LstmForward& l, Team& team, long member) {
  const long units = l.units, row = 4 * units, panel_row = 4 * kLanes, panel_size = units * panel_row;
  const Share own(tiles(units, kLanes), member, team.size());
  float* const panels = team.scratch();
  for (long tile = own.begin; tile < own.end; tile++)
    for (long gate = 0; gate < 4; gate++)
      pack(l.kernel + gate * units, row, units, tile * kLanes, units, panels + tile * panel_size + gate * kLanes, panel_row);

  for (long t = 0; t < l.steps; t++) {
    const long step = t * l.batch;
    const float* const h = t == 0 ? l.h0 : l.hidden + (step - l.batch) * units;
    const float* const c = t == 0 ? l.c0 : l.cells + (step - l.batch) * units;
    for (long tile = own.begin; tile < own.end; tile++) {
      const long unit = tile * kLanes, count = least(units - unit, kLanes);
      for_tiles<kLstmRows>(0, l.batch, [&](long first, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Vec sums[M][4];
        clear(sums);
        multiply(h + first * units, units, panels + tile * panel_size, units, sums);
        for (int i = 0; i < M; i++) {
          const long before = (first + i) * units + unit, at = step * units + before;
          if (l.mask != nullptr && l.mask[step + first + i] == 0.f) {
            store(l.hidden + at, load(h + before, count), count);
            store(l.cells + at, load(c + before, count), count);
            continue;  // its gates are not read again
          }
          float* const gates = l.gates + (step + first + i) * row + unit;  // may be x itself
          const float* const x = l.x + (step + first + i) * row + unit;
          const Vec input = sigmoid(load(x, count) + sums[i][0]);
          const Vec forget = sigmoid(load(x + units, count) + sums[i][1]);
          const Vec candidate = hyperbolic_tangent(load(x + 2 * units, count) + sums[i][2]);
          const Vec output = sigmoid(load(x + 3 * units, count) + sums[i][3]);
          const Vec cell = forget * load(c + before, count) + input * candidate;
          store(gates, input, count);
          store(gates + units, forget, count);
          store(gates + 2 * units, candidate, count);
          store(gates + 3 * units, output, count);
          store(l.cells + at, cell, count);
          store(l.hidden + at, output * hyperbolic_tangent(cell), count);
        }
      });
    }
    team.barrier();
  }
}

// Backward: a panel is some vectors of units wide and as deep as the gates; dh and dc stay with the member that owns the units.

// The gradients of the gates of one step, of all rows and the units [begin, end).
inline void lstm_gate_gradients(const LstmBackward& l, long t, long begin, long end) {
  const long units = l.units, row = 4 * units, step = t * l.batch;
  const float* const c = t == 0 ? l.c0 : l.cells + (step - l.batch) * units;
  for (long i = 0; i < l.batch; i++) {
    const bool held = l.mask != nullptr && l.mask[step + i] == 0.f;
    for (long unit = begin; unit < end; unit += kLanes) {
      const long count = least(end - unit, kLanes), before = i * units + unit, at = step * units + before;
      const float* const gates = l.gates + (step + i) * row + unit;
      float* const dx = l.dx + (step + i) * row + unit;  // may be the gates themselves
      const Vec dh = load(l.dh0 + before, count) + load(l.grad + at, count);
      if (held) {
        for (long gate = 0; gate < 4; gate++) store(dx + gate * units, Vec{}, count);
        store(l.dh0 + before, dh, count);
        continue;
      }
      const Vec input = load(gates, count), forget = load(gates + units, count);
      const Vec candidate = load(gates + 2 * units, count), output = load(gates + 3 * units, count);
      const Vec shown = hyperbolic_tangent(load(l.cells + at, count));
      const Vec dc = load(l.dc0 + before, count) + dh * output * (1.f - shown * shown);
      store(dx, dc * candidate * input * (1.f - input), count);
      store(dx + units, dc * load(c + before, count) * forget * (1.f - forget), count);
      store(dx + 2 * units, dc * input * (1.f - candidate * candidate), count);
      store(dx + 3 * units, dh * shown * output * (1.f - output), count);
      store(l.dc0 + before, dc * forget, count);
      store(l.dh0 + before, Vec{}, count);
    }
  }
}

// In tiles of at most `Rows` rows and N vectors of units.
template <int Rows, int N>
inline void lstm_backward_in_tiles(const LstmBackward& l, Team& team, long member) {
  constexpr long kWidth = N * kLanes;
  const long units = l.units, row = 4 * units, panel_size = row * kWidth;
  const Share own(tiles(units, kWidth), member, team.size());
  const long begin = least(own.begin * kWidth, units), end = least(own.end * kWidth, units);
  float* const panels = team.scratch();
  for (long tile = own.begin; tile < own.end; tile++)
    for (long part = 0; part < N; part++)
      pack_transposed(l.kernel, row, row, tile * kWidth + part * kLanes, units, panels + tile * panel_size + part * kLanes, kWidth);
  for (long i = 0; i < l.batch; i++) {
    memset(l.dh0 + i * units + begin, 0, (end - begin) * sizeof(float));
    memcpy(l.dc0 + i * units + begin, l.grad_cell + i * units + begin, (end - begin) * sizeof(float));
  }

  for (long t = l.steps - 1; t >= 0; t--) {
    lstm_gate_gradients(l, t, begin, end);
    team.barrier();
    for (long tile = own.begin; tile < own.end; tile++)
      for_tiles<Rows>(0, l.batch, [&](long first, auto rows) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Vec sums[M][N];
        clear(sums);
        multiply(l.dx + (t * l.batch + first) * row, row, panels + tile * panel_size, row, sums);
        for (int i = 0; i < M; i++)
          for (long part = 0; part < N; part++) {
            const long unit = tile * kWidth + part * kLanes;
            if (unit >= units) break;
            const long count = least(units - unit, kLanes);
            float* const dh = l.dh0 + (first + i) * units + unit;
            store(dh, load(dh, count) + sums[i][part], count);
          }
      });
  }
}

inline void lstm_backward(const LstmBackward& l, Team& team, long member) {
  // Wide tiles use the few rows of a small batch better, if there are enough of them for everyone.
  const long wide = tiles(l.units, 4 * kLanes);
  wide % team.size() == 0 || wide > 4 * team.size() ? lstm_backward_in_tiles<kRows / 2, 4>(l, team, member)
                                                    : lstm_backward_in_tiles<kRows, 2>(l, team, member);
}

}  // namespace fedloom::FEDLOOM_ISA
