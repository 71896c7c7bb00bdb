// Weights of several formats, one of which a selector picks for each group (ANT's types, any candidates of equal width):
// all tables beside one another, in one unit.
#ifndef CODESIGN_MIXTURE_H
#define CODESIGN_MIXTURE_H

#include "codesign/products.h"

namespace codesign {

// Code `code` of candidate `candidate` as a number (products.h): the entry of a table of all candidates, one after
// another, in units of 2**UNIT_EXPONENT.
template <int BITS, int ENTRY_BITS, int UNIT_EXPONENT, class TABLE>
struct mixture_number {
  static constexpr int bits = BITS, factor_bits = ENTRY_BITS, max_shift = 0, unit_exponent = UNIT_EXPONENT;
  static constexpr int shift = 0;
  ap_int<ENTRY_BITS> factor;

  mixture_number(ap_uint<BITS> code, int candidate) : factor(TABLE::entries[(candidate << BITS) + code.to_int()]) {
#pragma HLS INLINE
  }
};

// PRODUCTS (products.h) is of a mixture_number and any activation.
template <class PRODUCTS, int SELECTOR_BITS, int LANES>
struct mixture_arithmetic {
  using weight_t = typename PRODUCTS::weight_t;
  using activation_t = typename PRODUCTS::activation_t;
  static constexpr int lanes = LANES, weight_bits = weight_t::bits, activation_bits = activation_t::bits;
  static constexpr int selector_bits = SELECTOR_BITS, unit_exponent = PRODUCTS::unit_exponent;
  using sum_t = typename PRODUCTS::sum_t;

  static void clear(sum_t& sum) { sum = 0; }

  static void accumulate(sum_t& sum, const ap_uint<weight_bits> (&w)[LANES], const ap_uint<activation_bits> (&a)[LANES],
                         ap_uint<SELECTOR_BITS> selector) {
#pragma HLS INLINE
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      PRODUCTS::add(sum, weight_t(w[lane], selector.to_int()), activation_t(a[lane]));
    }
  }

  static float value(const sum_t& sum) { return PRODUCTS::value(sum); }
};

}  // namespace codesign

#endif
