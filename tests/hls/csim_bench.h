// Arithmetics as PEs that hls/csim_pe.py can drive: those with pairs, vectors, loaded tables, several outputs or a
// rescaling step, which its own adapter leaves out (docs/hls.md, "Arithmetics").
#pragma once

#include <type_traits>

#include "codesign/codebook.h"
#include "codesign/serial.h"
#include "codesign/shift_mac.h"

// What an arithmetic does not say: counts are 1, flags false.
#define STATED_OR(NAME, OTHERWISE)                                                                   \
  template <class A, class = void>                                                                  \
  struct NAME##_of {                                                                                \
    static constexpr int value = OTHERWISE;                                                         \
  };                                                                                                \
  template <class A>                                                                                \
  struct NAME##_of<A, std::void_t<decltype(A::NAME)>> {                                             \
    static constexpr int value = A::NAME;                                                           \
  };
STATED_OR(weight_elements, 1)
STATED_OR(activation_elements, 1)
STATED_OR(outputs, 1)
STATED_OR(rescales, 0)
STATED_OR(entries, -1)
STATED_OR(entry_bits, 1)

template <class A, class = void>
struct cycles_of {
  static constexpr int value = 0;
};
template <class A>
struct cycles_of<A, std::void_t<decltype(A::cycles())>> {
  static constexpr int value = A::cycles();
};

struct no_registers {};
template <class A, class = void>
struct registers_of {
  using type = no_registers;
};
template <class A>
struct registers_of<A, std::void_t<typename A::registers_t>> {
  using type = typename A::registers_t;
};

// One set of lanes a cycle. `write` stores a word before the lanes are added; `rescale` instead of `weight`.
// `value`: the bits of a float32 for each output. `cycles`: of an accumulate, 0 where the arithmetic does not say.
template <class A>
struct loaded_pe {
  static constexpr int outputs = outputs_of<A>::value;
  static constexpr int weights = A::lanes / weight_elements_of<A>::value;
  static constexpr int activations = A::lanes / activation_elements_of<A>::value;
  static constexpr bool loaded = entries_of<A>::value >= 0;
  using selector_t = ap_uint<A::selector_bits ? A::selector_bits : 1>;
  typename A::sum_t sum;
  typename registers_of<A>::type registers;
  loaded_pe() { A::clear(sum); }

  void step(ap_uint<1> clear, ap_uint<1> rescale, ap_uint<1> write, ap_uint<16> index,
            ap_uint<entry_bits_of<A>::value> entry, ap_uint<weights * A::weight_bits> weight,
            ap_uint<activations * A::activation_bits> activation, selector_t selector,
            ap_uint<32 * outputs>& value, ap_uint<16>& cycles) {
    if constexpr (loaded) {
      if (write) A::write(registers, index.to_int(), entry);
    }
    cycles = cycles_of<A>::value;
    if (clear) A::clear(sum);
    ap_uint<A::weight_bits> w[weights];
    ap_uint<A::activation_bits> a[activations];
    codesign::lanes_of<A::weight_bits, weights>(weight, w);
    codesign::lanes_of<A::activation_bits, activations>(activation, a);
    if constexpr (rescales_of<A>::value) {
      if (rescale) A::rescale(sum);
    }
    if (!rescale && !write) {
      if constexpr (loaded) {
        A::accumulate(sum, w, a, selector, registers);
      } else {
        A::accumulate(sum, w, a, selector);
      }
    }
    for (int output = 0; output < outputs; ++output) {
      value.range(32 * output + 31, 32 * output) = codesign::bits_of_float(read(output));
    }
  }

 private:
  float read(int output) const {
    static_cast<void>(output);
    if constexpr (outputs > 1) {
      return A::value(sum, output, registers);
    } else if constexpr (loaded) {
      return A::value(sum, registers);
    } else {
      return A::value(sum);
    }
  }
};
