// Products of codes beside those of their formats' values, for pair_sweep.py: what a generated program is made of.
#ifndef CODESIGN_PAIR_SWEEP_H
#define CODESIGN_PAIR_SWEEP_H

#include <cfloat>
#include <cstdio>
#include <vector>

#include "codesign/arithmetic_traits.h"
#include "codesign/block_dot.h"
#include "codesign/codebook.h"
#include "codesign/float_accumulate.h"
#include "codesign/integer.h"
#include "codesign/shift_mac.h"

struct code { unsigned bits; double first, second; };  // values of its elements
using codes = std::vector<code>;
struct outcome { long compared, wrong; unsigned weight, activation; };  // and codes of the first one that is wrong
using comparison = outcome (*)(const codes& weights, const codes& activations);

// Of one weight code and as many activation codes as it spans, all equal.
template <class A>
float product(unsigned weight, unsigned activation) {
  constexpr int w_codes = A::lanes / codesign::weight_elements_of<A>::value;
  constexpr int a_codes = A::lanes / codesign::activation_elements_of<A>::value;
  ap_uint<A::weight_bits> w[w_codes];
  ap_uint<A::activation_bits> a[a_codes];
  w[0] = weight;
  for (auto& lane : a) lane = activation;
  typename A::sum_t sum;
  A::clear(sum);
  A::accumulate(sum, w, a, 0);
  return A::value(sum);
}

// All by all: a product is exact in double, and rounded to float32 once. Floats saturate (float_accumulate.h).
template <class A>
outcome compare(const codes& weights, const codes& activations) {
  outcome found = {0, 0, 0, 0};
  for (const code& weight : weights) {
    for (const code& activation : activations) {
      const double exact = weight.first * activation.first + weight.second * activation.second;
      const float wanted = static_cast<float>(exact > FLT_MAX ? FLT_MAX : exact < -FLT_MAX ? -FLT_MAX : exact);
      ++found.compared;
      if (!(product<A>(weight.bits, activation.bits) == wanted) && found.wrong++ == 0) {
        found.weight = weight.bits;
        found.activation = activation.bits;
      }
    }
  }
  return found;
}

inline bool read_words(unsigned long long* words, std::size_t count) {
  return std::fread(words, 8, count, stdin) == count;
}

inline codes read_codes() {
  unsigned long long count = 0;
  if (!read_words(&count, 1)) return {};
  std::vector<double> raw(3 * count);
  if (std::fread(raw.data(), 8, raw.size(), stdin) != raw.size()) return {};
  codes made;
  for (std::size_t i = 0; i < raw.size(); i += 3) made.push_back({unsigned(raw[i]), raw[i + 1], raw[i + 2]});
  return made;
}

// Standard input: tables of formats, then pairs, each a comparison, a table of weights and one of activations.
inline int run(const comparison* comparisons) {
  unsigned long long tables = 0, pairs = 0, pair[3];
  if (!read_words(&tables, 1)) return 2;
  std::vector<codes> of;
  for (unsigned long long i = 0; i < tables; ++i) of.push_back(read_codes());
  if (!read_words(&pairs, 1)) return 2;
  for (unsigned long long i = 0; i < pairs; ++i) {
    if (!read_words(pair, 3)) return 2;
    const outcome found = comparisons[pair[0]](of[pair[1]], of[pair[2]]);
    std::printf("%ld %ld %u %u\n", found.compared, found.wrong, found.weight, found.activation);
  }
  return 0;
}

#endif
