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

// Whether each product is rounded into a float.
template <class A, class = void>
struct rounds_of : std::false_type {};
template <class A>
struct rounds_of<A, std::void_t<decltype(A::rounds)>> : std::bool_constant<A::rounds> {};

// Whether sums are rescaled between two slabs of columns.
template <class A, class = void>
struct rescales_of : std::false_type {};
template <class A>
struct rescales_of<A, std::void_t<decltype(A::rescales)>> : std::bool_constant<A::rescales> {};

template <class A>
using selector_of = ap_uint<A::selector_bits ? A::selector_bits : 1>;

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

// --- cycles of a step -------------------------------------------------------------------------------------------------

struct no_cycle {};  // what a serial arithmetic keeps from one cycle of a step to the next, where it is nothing

template <class A, class = void>
struct cycle_state_of {
  static constexpr bool serial = false;
  using type = no_cycle;
};
template <class A>
struct cycle_state_of<A, std::void_t<typename A::cycle_t>> {
  static constexpr bool serial = true;
  using type = typename A::cycle_t;
};

// Cycles of a step; `registers` as a part states them.
template <class A>
constexpr int cycles_of(const std::uint32_t (&registers)[1]) {
  if constexpr (!cycle_state_of<A>::serial) return 1;
  else if constexpr (takes_registers<A>::value) return A::cycles(registers[0]);
  else return A::cycles();
}
template <class A, std::size_t SIZE>
constexpr int cycles_of(const std::uint32_t (&)[SIZE]) {
  static_assert(!cycle_state_of<A>::serial, "serial arithmetics have one register");
  return 1;
}

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

// Cycle `cycle` of a step: all of it, where the arithmetic is not serial.
template <class A, class W, class X>
void add_cycle(typename A::sum_t& sum, typename cycle_state_of<A>::type& state, const W& w, const X& x,
               selector_of<A> selector, const typename registers_of<A>::type& registers, int cycle) {
#pragma HLS INLINE
  if constexpr (cycle_state_of<A>::serial && takes_registers<A>::value) {
    A::add_cycle(sum, state, w, x, selector, registers, cycle);
  } else if constexpr (cycle_state_of<A>::serial) {
    A::add_cycle(sum, state, w, x, cycle);
  } else if constexpr (takes_registers<A>::value) {
    A::accumulate(sum, w, x, selector, registers);
  } else {
    A::accumulate(sum, w, x, selector);
  }
}

// All cycles of a step of a serial arithmetic.
template <class A, class W, class X>
void add_cycles(typename A::sum_t& sum, const W& w, const X& x, selector_of<A> selector,
                      const typename registers_of<A>::type& registers, int cycles) {
#pragma HLS INLINE
  typename cycle_state_of<A>::type state;
cycles_of_step:
  for (int cycle = 0; cycle < cycles; ++cycle) {
#pragma HLS PIPELINE II = 1
    add_cycle<A>(sum, state, w, x, selector, registers, cycle);
  }
}

}  // namespace codesign

#endif
