// What each operation of ap_int and ap_uint that hls/include has a use for gives, for integers of many widths: one line
// for each, so that two implementations can be compared (test_native_integers.py).
#ifndef CODESIGN_INTEGER_OPERATIONS_H
#define CODESIGN_INTEGER_OPERATIONS_H

#include <cstdint>
#include <cstdio>
#include <type_traits>

#include <ap_int.h>

static std::uint64_t state = 1;
static std::uint64_t drawn() {  // splitmix64 (Steele, Lea, Flood, OOPSLA 2014)
  std::uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Any bits, or a run of ones below zeros or above them.
template <class T>
T drawn_value() {
  ap_uint<256> bits = 0;
  for (int part = 0; part < 256; part += 64) bits.range(part + 63, part) = ap_uint<64>(drawn());
  const int kind = int(drawn() % 4), places = int(drawn() % T::width);
  if (kind < 2) {
    bits = 0;
    for (int place = 0; place < 256; ++place) bits[place] = (place < places) == (kind == 0);
  }
  return T(bits);
}

template <class T>
constexpr bool is_signed = std::is_same<T, ap_int<T::width>>::value;
template <class T>
bool negative(const T& value) { return is_signed<T> && value[T::width - 1]; }

struct line {
  const char* name;
  std::uint64_t digest = 0xCBF29CE484222325u;  // FNV-1a, 64 bits
  void mix(std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) digest = (digest ^ (value >> 8 * byte & 255)) * 0x100000001B3u;
  }
  template <int BITS, bool SIGNED>
  void add(const ap_int_base<BITS, SIGNED>& value) {  // its low 256 bits, extended, and its width
    const ap_uint<256> low = value;
    for (int part = 0; part < 256; part += 64) mix(low.range(part + 63, part).to_uint64());
    mix(2 * BITS + SIGNED);
  }
  void add(bool value) { mix(value); }
};

template <class A, class B>
void operations(const char* types) {
  line sum{"+"}, difference{"-"}, product{"*"}, conjunction{"&"}, disjunction{"|"}, exclusive{"^"}, complement{"~"},
      negation{"unary -"}, left{"<<"}, right{">>"}, order{"order"}, numbers{"C types"}, bits{"bits"}, ranges{"ranges"},
      narrowed{"conversions"}, assigned{"assignments"}, mixed{"integers of C"}, ones{"ones below"};
  for (int round = 0; round < 300; ++round) {
    const A a = drawn_value<A>();
    const B b = round % 7 == 0 ? B(a) : drawn_value<B>();
    sum.add(a + b);
    difference.add(a - b);
    product.add(a * b);
    conjunction.add(a & b);
    disjunction.add(a | b);
    exclusive.add(a ^ b);
    complement.add(~a);
    negation.add(-a);

    const int places = round % A::width, back = -places;
    left.add(a << places);
    left.add(a << (A::width + round % 70));
    left.add(a << back);
    left.add(a << ap_uint<6>(places));
    left.add(a << ap_int<7>(back));
    right.add(a >> places);
    right.add(a >> back);
    right.add(a >> ap_uint<6>(places));

    if (is_signed<A> == is_signed<B> || (!negative(a) && !negative(b))) {
      for (const bool one : {a == b, a != b, a < b, a <= b, a > b, a >= b}) order.add(one);
    }
    for (const bool one : {a == 0, a != 0, a < 0, a > 5, 3 > a}) order.add(one);
    if constexpr (is_signed<A>) {
      for (const bool one : {a == -1, a <= -1, -7 > a}) order.add(one);
    }
    numbers.mix(std::uint64_t(a.to_int()));
    numbers.mix(a.to_uint());
    numbers.mix(std::uint64_t(a.to_int64()));
    numbers.mix(a.to_uint64());
    numbers.mix(a ? 1 : 0);

    A changed = a;
    const int place = round % A::width, high = place + (A::width - 1 - place) / 2;
    bits.add(bool(a[place]));
    changed[place] = b[0];
    bits.add(changed);
    changed[A::width - 1] = round % 2 == 1;
    bits.add(changed);
    ranges.add(ap_uint<A::width>(a.range(high, place)));
    ranges.add(a.range(high, place) == 0);
    changed.range(high, place) = b;
    ranges.add(changed);

    narrowed.add(ap_int<7>(a));
    narrowed.add(ap_uint<33>(a));
    narrowed.add(ap_int<90>(a));
    narrowed.add(B(a));
    narrowed.add(round % 2 ? ap_int<40>(a) : ap_int<40>(b));

    changed = a;
    changed += b;
    assigned.add(changed);
    changed -= a;
    assigned.add(changed);
    changed *= b;
    assigned.add(changed);
    changed |= A(b);
    changed <<= place;
    assigned.add(changed);
    changed ^= A(b);
    changed >>= place;
    assigned.add(changed);
    changed = b;
    changed &= A(a);
    assigned.add(changed);
    changed = int(round) - 150;
    assigned.add(changed);

    mixed.add(a + 1);
    mixed.add(a - 1);
    mixed.add(7 - a);
    mixed.add(a * -3);
    mixed.add(a | 1u);
    mixed.add(a + (round % 2 == 0));
    ones.add(a | ((B(1) << (round % B::width)) - 1));
  }
  for (const line& one : {sum, difference, product, conjunction, disjunction, exclusive, complement, negation, left, right,
                          order, numbers, bits, ranges, narrowed, assigned, mixed, ones}) {
    std::printf("%s %s: %016llx\n", types, one.name, static_cast<unsigned long long>(one.digest));
  }
}

template <class A, class B>
void both(const char* types) {
  std::printf("%s\n", types);
  operations<A, B>("as named,");
  operations<B, A>("other way,");
}

#endif
