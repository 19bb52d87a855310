// An LSTM over a sequence. As in `gru.h`, every member of the team has some of the units from the first step to the last, and the members meet
// once per step.
#pragma once

#include "bfloat16.h"
#include "kernels.h"

namespace fedloom::FEDLOOM_ISA {

constexpr int kLstmRows = kRows / 2;  // times the four gates

// Forward: the four gates of one vector of units are a panel, so that a unit's gates are complete when its products are.
template <typename Form>
struct LstmForwardPass {
  using Left = typename Form::Left;
  using Cell = typename Form::Cell;

  const LstmForward& l;
  Team& team;
  const long member;
  const long units = l.units, row = 4 * units, depth = steps_of<Form>(units), panel_size = depth * 4 * kLanes;
  const Share own{tiles(units, kLanes), member, team.size()};
  Cell* const panels = reinterpret_cast<Cell*>(team.scratch());
  // What is multiplied at an even and at an odd step, (batch, depth) each; empty if nothing has to be packed.
  Left* const lefts = reinterpret_cast<Left*>(team.scratch() + tiles(units, kLanes) * panel_size);

  const float* before(const float* first, const float* sequence, long t) const { return t == 0 ? first : sequence + (t - 1) * l.batch * units; }

  const Left* multiplied(long t) const {
    if constexpr (Form::kAsItIs)
      return before(l.h0, l.hidden, t);
    else
      return lefts + t % 2 * l.batch * depth;
  }

  FEDLOOM_INLINE void keep_state(long t, long i, long unit, long count, Vec state) const {
    if constexpr (!Form::kAsItIs) Form::keep(state, count, lefts + (t % 2 * l.batch + i) * depth + unit / Form::kDepth);
  }

  void run() const {
    for (long tile = own.begin; tile < own.end; tile++) {
      const long unit = tile * kLanes, count = least(units - unit, kLanes);
      for (long gate = 0; gate < 4; gate++)
        pack_in<Form>(l.kernel + gate * units, row, units, unit, units, panels + tile * panel_size + gate * kLanes, 4 * kLanes);
      for (long i = 0; i < l.batch; i++) keep_state(0, i, unit, count, load(l.h0 + i * units + unit, count));
    }
    if constexpr (!Form::kAsItIs) team.barrier();

    for (long t = 0; t < l.steps; t++) {
      for (long tile = own.begin; tile < own.end; tile++)
        for_tiles<kLstmRows>(0, l.batch, [&](long first, auto rows) __attribute__((always_inline)) {
          constexpr int M = decltype(rows)::count;
          Vec sums[M][4];
          clear(sums);
          multiply_in<Form>(multiplied(t) + first * depth, depth, 1, panels + tile * panel_size, depth, sums);
          for (int i = 0; i < M; i++) step(t, first + i, tile * kLanes, sums[i]);
        });
      team.barrier();
    }
  }

  FEDLOOM_INLINE void step(long t, long i, long unit, const Vec (&sums)[4]) const {
    const long count = least(units - unit, kLanes), n = t * l.batch + i, at = n * units + unit, within = i * units + unit;
    const Vec c = load(before(l.c0, l.cells, t) + within, count);
    if (l.mask != nullptr && l.mask[n] == 0.f) {
      const Vec h = load(before(l.h0, l.hidden, t) + within, count);
      store(l.hidden + at, h, count);
      store(l.cells + at, c, count);
      keep_state(t + 1, i, unit, count, h);
      return;  // its gates are not read again
    }
    float* const gates = l.gates + n * row + unit;  // may be x itself
    const float* const x = l.x + (l.ids ? l.ids[n] : n) * row + unit;
    const Vec input = sigmoid(load(x, count) + sums[0]);
    const Vec forget = sigmoid(load(x + units, count) + sums[1]);
    const Vec candidate = hyperbolic_tangent(load(x + 2 * units, count) + sums[2]);
    const Vec output = sigmoid(load(x + 3 * units, count) + sums[3]);
    const Vec cell = forget * c + input * candidate;
    const Vec h = output * hyperbolic_tangent(cell);
    store(gates, input, count);
    store(gates + units, forget, count);
    store(gates + 2 * units, candidate, count);
    store(gates + 3 * units, output, count);
    store(l.cells + at, cell, count);
    store(l.hidden + at, h, count);
    keep_state(t + 1, i, unit, count, h);
  }
};

inline void lstm_forward(const LstmForward& l, Team& team, long member) {
  l.bfloat16 ? LstmForwardPass<Bfloat16>{l, team, member}.run() : LstmForwardPass<Float32>{l, team, member}.run();
}

// Backward: a panel is N vectors of units wide and as deep as the gates; dh and dc stay with the member that owns the units. Products are of
// tiles of at most `Rows` rows.
template <typename Form, int Rows, int N>
struct LstmBackwardPass {
  using Left = typename Form::Left;
  using Cell = typename Form::Cell;
  static constexpr long kWidth = N * kLanes;

  const LstmBackward& l;
  Team& team;
  const long member;
  const long units = l.units, row = 4 * units, depth = steps_of<Form>(units), gate_size = depth * kWidth, panel_size = 4 * gate_size;
  const Share own{tiles(units, kWidth), member, team.size()};
  const long unit_begin = least(own.begin * kWidth, units), unit_end = least(own.end * kWidth, units);
  Cell* const panels = reinterpret_cast<Cell*>(team.scratch());
  // What is multiplied at an even and at an odd step, (batch, 4 depth) each; empty if nothing has to be packed.
  Left* const lefts = reinterpret_cast<Left*>(team.scratch() + tiles(units, kWidth) * panel_size);

  const Left* multiplied(long t) const {
    if constexpr (Form::kAsItIs)
      return l.dx + t * l.batch * row;
    else
      return lefts + t % 2 * l.batch * 4 * depth;
  }

  FEDLOOM_INLINE void keep_gate(long t, long i, long gate, long unit, long count, Vec value) const {
    const long n = t * l.batch + i, at = gate * units + unit;
    store(l.dx + n * row + at, value, count);
    if (l.ids) {
      float* const of_id = l.dx_of_ids + l.ids[n] * row + at;
      store(of_id, load(of_id, count) + value, count);
    }
    if constexpr (!Form::kAsItIs) Form::keep(value, count, lefts + ((t % 2 * l.batch + i) * 4 + gate) * depth + unit / Form::kDepth);
  }

  void run() const {
    for (long tile = own.begin; tile < own.end; tile++)
      for (long gate = 0; gate < 4; gate++)
        for (long part = 0; part < N; part++)
          pack_transposed_in<Form>(l.kernel + gate * units, row, units, tile * kWidth + part * kLanes, units,
                                   panels + tile * panel_size + gate * gate_size + part * kLanes, kWidth);
    const size_t bytes = (unit_end - unit_begin) * sizeof(float);
    for (long i = 0; i < l.batch; i++) {
      memset(l.dh0 + i * units + unit_begin, 0, bytes);
      memcpy(l.dc0 + i * units + unit_begin, l.grad_cell + i * units + unit_begin, bytes);
    }
    for (long n = 0; l.ids && n < 4 * l.ids_below; n++) memset(l.dx_of_ids + n * units + unit_begin, 0, bytes);

    for (long t = l.steps - 1; t >= 0; t--) {
      for (long i = 0; i < l.batch; i++)
        for (long unit = unit_begin; unit < unit_end; unit += kLanes) gate_gradients(t, i, unit);
      team.barrier();
      for (long tile = own.begin; tile < own.end; tile++)
        for_tiles<Rows>(0, l.batch, [&](long first, auto rows) __attribute__((always_inline)) {
          constexpr int M = decltype(rows)::count;
          Vec sums[M][N];
          clear(sums);
          multiply_in<Form>(multiplied(t) + first * 4 * depth, 4 * depth, 1, panels + tile * panel_size, 4 * depth, sums);
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

  FEDLOOM_INLINE void gate_gradients(long t, long i, long unit) const {
    const long count = least(unit_end - unit, kLanes), n = t * l.batch + i, within = i * units + unit, at = n * units + unit;
    const Vec dh = load(l.dh0 + within, count) + load(l.grad + at, count);
    if (l.mask != nullptr && l.mask[n] == 0.f) {
      for (long gate = 0; gate < 4; gate++) keep_gate(t, i, gate, unit, count, Vec{});
      store(l.dh0 + within, dh, count);
      return;
    }
    const float* const gates = l.gates + n * row + unit;  // may be dx itself
    const Vec input = load(gates, count), forget = load(gates + units, count);
    const Vec candidate = load(gates + 2 * units, count), output = load(gates + 3 * units, count);
    const Vec before = load((t == 0 ? l.c0 : l.cells + (t - 1) * l.batch * units) + within, count);
    const Vec shown = hyperbolic_tangent(load(l.cells + at, count));
    const Vec dc = load(l.dc0 + within, count) + dh * output * (1.f - shown * shown);
    keep_gate(t, i, 0, unit, count, dc * candidate * input * (1.f - input));
    keep_gate(t, i, 1, unit, count, dc * before * forget * (1.f - forget));
    keep_gate(t, i, 2, unit, count, dc * input * (1.f - candidate * candidate));
    keep_gate(t, i, 3, unit, count, dh * shown * output * (1.f - output));
    store(l.dc0 + within, dc * forget, count);
    store(l.dh0 + within, Vec{}, count);
  }
};

template <typename Form>
inline void lstm_backward_of(const LstmBackward& l, Team& team, long member) {
  // Wide tiles use the few rows of a small batch better, if there are enough of them for everyone.
  const long wide = tiles(l.units, 4 * kLanes);
  if (wide % team.size() == 0 || wide > 4 * team.size())
    LstmBackwardPass<Form, kRows / 2, 4>{l, team, member}.run();
  else
    LstmBackwardPass<Form, kRows, 2>{l, team, member}.run();
}

inline void lstm_backward(const LstmBackward& l, Team& team, long member) {
  l.bfloat16 ? lstm_backward_of<Bfloat16>(l, team, member) : lstm_backward_of<Float32>(l, team, member);
}

}  // namespace fedloom::FEDLOOM_ISA
