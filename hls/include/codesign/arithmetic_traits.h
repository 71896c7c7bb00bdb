// What an arithmetic (docs/hls.md) says about itself, and what holds where it says nothing: counts are 1, flags false.
#ifndef CODESIGN_ARITHMETIC_TRAITS_H
#define CODESIGN_ARITHMETIC_TRAITS_H

#include <type_traits>
#include <utility>

#include "codesign/types.h"

namespace codesign {

template <class A, class = void>
struct weight_elements_of : std::integral_constant<int, 1> {};
template <class A>
struct weight_elements_of<A, std::void_t<decltype(A::weight_elements)>>
    : std::integral_constant<int, A::weight_elements> {};

template <class A, class = void>
struct activation_elements_of : std::integral_constant<int, 1> {};
template <class A>
struct activation_elements_of<A, std::void_t<decltype(A::activation_elements)>>
    : std::integral_constant<int, A::activation_elements> {};

// Rows of the weight that one code spans.
template <class A, class = void>
struct outputs_of : std::integral_constant<int, 1> {};
template <class A>
struct outputs_of<A, std::void_t<decltype(A::outputs)>> : std::integral_constant<int, A::outputs> {};

template <class A, class = void>
struct dequantizes_of : std::false_type {};
template <class A>
struct dequantizes_of<A, std::void_t<decltype(A::dequantizes)>> : std::bool_constant<A::dequantizes> {};

// --- what is loaded at run time ---------------------------------------------------------------------------------------

struct no_registers {};

template <class A, class = void>
struct registers_of {
  static constexpr bool present = false;
  static constexpr int entries = 0, entry_bits = 1;
  using type = no_registers;
};
template <class A>
struct registers_of<A, std::void_t<typename A::registers_t>> {
  static constexpr bool present = A::entries > 0;
  static constexpr int entries = A::entries, entry_bits = A::entry_bits > 0 ? A::entry_bits : 1;
  using type = typename A::registers_t;
};

template <class A, class = void>
struct takes_registers : std::false_type {};
template <class A>
struct takes_registers<A, std::void_t<typename A::registers_t>> : std::true_type {};

// --- exact sums -------------------------------------------------------------------------------------------------------

// The integer in a sum, for exact sums: the sum itself, or one of several outputs'.
template <int BITS>
const ap_int<BITS>& integer_of(const ap_int<BITS>& sum, int) { return sum; }
template <class SUM>
auto integer_of(const SUM& sum, int output) -> decltype((sum.of[output])) { return sum.of[output]; }

template <class SUM>
struct sum_width;
template <int BITS>
struct sum_width<ap_int<BITS>> : std::integral_constant<int, BITS> {};

// Bits of the integer in a sum of A.
template <class A>
struct integer_width
    : sum_width<std::decay_t<decltype(integer_of(std::declval<const typename A::sum_t&>(), 0))>> {};

// --- calls ------------------------------------------------------------------------------------------------------------

// float32 of a sum, in value units; of one of its outputs.
template <class A>
float value_of(const typename A::sum_t& sum, int output, const typename registers_of<A>::type& registers) {
#pragma HLS INLINE
  if constexpr (outputs_of<A>::value > 1) return A::value(sum, output, registers);
  else if constexpr (takes_registers<A>::value) return A::value(sum, registers);
  else return A::value(sum);
}

template <class A, class W, class X, class SELECTOR>
void accumulate_lanes(typename A::sum_t& sum, const W& w, const X& x, SELECTOR selector,
                      const typename registers_of<A>::type& registers) {
#pragma HLS INLINE
  if constexpr (takes_registers<A>::value) A::accumulate(sum, w, x, selector, registers);
  else A::accumulate(sum, w, x, selector);
}

}  // namespace codesign

#endif
