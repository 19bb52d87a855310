// The largest of each window of an image, where windows lie side by side; its gradient goes to the first of those that are largest.
#pragma once

#include "kernels.h"
#include "product.h"

namespace fedloom::FEDLOOM_ISA {

inline void max_pool_forward(const MaxPool& p, Team& team, long member) {
  const long row = p.columns * p.channels;
  const Share own(p.images * p.out_rows, member, team.size());
  for (long at = own.begin; at < own.end; at++) {
    const float* const x = p.x + (at / p.out_rows * p.rows + at % p.out_rows * p.window_rows) * row;
    for (long column = 0; column < p.out_columns; column++)
      for (long channel = 0; channel < p.channels; channel += kLanes) {
        const long count = least(p.channels - channel, kLanes);
        const float* const window = x + column * p.window_columns * p.channels + channel;
        Vec most = load(window, count);
        for (long i = 0; i < p.window_rows; i++)
          for (long j = 0; j < p.window_columns; j++) {
            const Vec value = load(window + i * row + j * p.channels, count);
            most = (value > most) | (value != value) ? value : most;  // NaN wins
          }
        store(p.y + (at * p.out_columns + column) * p.channels + channel, most, count);
      }
  }
}

inline void max_pool_backward(const MaxPoolGradient& p, Team& team, long member) {
  const long row = p.columns * p.channels, used = p.out_columns * p.window_columns * p.channels;
  const Share own(p.images * p.out_rows, member, team.size());
  for (long at = own.begin; at < own.end; at++) {
    const long begin = at / p.out_rows * p.rows + at % p.out_rows * p.window_rows;
    const long end = at % p.out_rows == p.out_rows - 1 ? (at / p.out_rows + 1) * p.rows : begin + p.window_rows;
    for (long i = begin; i < end; i++) {  // what no window covers has gradient 0
      const long covered = i < begin + p.window_rows ? used : 0;
      memset(p.dx + i * row + covered, 0, (row - covered) * sizeof(float));
    }
    for (long column = 0; column < p.out_columns; column++)
      for (long channel = 0; channel < p.channels; channel += kLanes) {
        const long count = least(p.channels - channel, kLanes);
        const long from = begin * row + column * p.window_columns * p.channels + channel;
        const Vec grad = load(p.grad + (at * p.out_columns + column) * p.channels + channel, count);
        Vec most = load(p.x + from, count);
        IntVec where = {};
        for (int32_t i = 0; i < p.window_rows; i++)
          for (int32_t j = 0; j < p.window_columns; j++) {
            const Vec value = load(p.x + from + i * row + j * p.channels, count);
            const IntVec stays = most >= value;
            most = stays ? most : value;
            where = stays ? where : IntVec{} + (i * (int32_t)p.window_columns + j);
          }
        for (int32_t i = 0; i < p.window_rows; i++)
          for (int32_t j = 0; j < p.window_columns; j++)
            store(p.dx + from + i * row + j * p.channels, where == i * (int32_t)p.window_columns + j ? grad : Vec{}, count);
      }
  }
}

}  // namespace fedloom::FEDLOOM_ISA
