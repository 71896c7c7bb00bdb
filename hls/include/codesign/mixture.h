// Weights of several formats, one of which a selector picks for each group (ANT's types, any candidates of equal width):
// all tables beside one another, in one unit.
#ifndef CODESIGN_MIXTURE_H
#define CODESIGN_MIXTURE_H

#include "codesign/products.h"
#include "codesign/shift_mac.h"

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
  static constexpr bool rounds = PRODUCTS::rounds;
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

// OliVe's pairs with int4 (selector 0) or flint4 (selector 1) as their normal type: both decoders, and a choice behind
// them. PRODUCTS is of olive_number<true>, whose shifts are the larger ones, and an activation of one code each.
template <class PRODUCTS, int LANES>
struct olive_mixture_arithmetic {
  static_assert(LANES % 2 == 0, "OliVe's elements come in pairs");
  static_assert(olive_number<true>::max_shift >= olive_number<false>::max_shift, "sums hold the larger shifts");
  using activation_t = typename PRODUCTS::activation_t;
  using number_t = olive_number<true>;
  static constexpr int lanes = LANES, weight_bits = 8, activation_bits = activation_t::bits;
  static constexpr int selector_bits = 1, weight_elements = 2, unit_exponent = PRODUCTS::unit_exponent;
  static constexpr bool rounds = PRODUCTS::rounds;
  using sum_t = typename PRODUCTS::sum_t;

  static void clear(sum_t& sum) { sum = 0; }

  static void accumulate(sum_t& sum, const ap_uint<8> (&w)[LANES / 2], const ap_uint<activation_bits> (&a)[LANES],
                         ap_uint<1> selector) {
#pragma HLS INLINE
  pairs_added:
    for (int pair = 0; pair < LANES / 2; ++pair) {
#pragma HLS UNROLL
      const olive_pair<true> flint(w[pair]);
      const olive_pair<false> plain(w[pair]);
      number_t first = flint.first, second = flint.second;
      if (!selector) {
        first.factor = plain.first.factor;
        first.shift = plain.first.shift;
        second.factor = plain.second.factor;
        second.shift = plain.second.shift;
      }
      PRODUCTS::add(sum, first, activation_t(a[2 * pair]));
      PRODUCTS::add(sum, second, activation_t(a[2 * pair + 1]));
    }
  }

  static float value(const sum_t& sum) { return PRODUCTS::value(sum); }
};

}  // namespace codesign

#endif
