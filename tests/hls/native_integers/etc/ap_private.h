// The integers that ap_int.h stores its values in, on the processor's own words: for tests of many values.
//
// Vitis' open headers keep all rules of ap_int and ap_uint (widths of results, conversions, references) in ap_int_base.h
// and ap_int_ref.h, and leave the arithmetic to this file, which they include as <etc/ap_private.h>; theirs takes a loop
// over words for each operation beyond 64 bits. A folder of this one that stands before theirs makes a program some
// twenty times as fast. Of integers beyond 256 bits the low 256 are kept, all that sums, products and logic need to be
// narrowed again: what would need the others does not compile. What the open headers do by C's rules for some widths and
// by those of numbers for others ends the program: a negative number compared with one of an unsigned type, a shift to
// the right by the whole width. tests/hls/test_native_integers.py compares all else.
#ifndef __AP_PRIVATE_H__
#define __AP_PRIVATE_H__
#define __AP_FIXED_H__  // ap_int.h brings ap_fixed.h along, which needs more of this file than integers do

#include <cassert>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <type_traits>

#ifndef INLINE
#define INLINE inline
#endif

namespace native {

__extension__ typedef __int128 wide;  // of gcc and clang, for 64-bit processors
__extension__ typedef unsigned __int128 unsigned_wide;

// An integer of 256 bits, in two's complement where SIGNED; as the integers of C are, modulo 2**256.
template <bool SIGNED>
struct twice_wide {
  unsigned_wide low, high;

  twice_wide() = default;
  constexpr twice_wide(unsigned_wide low_bits, unsigned_wide high_bits) : low(low_bits), high(high_bits) {}
  template <class NUMBER, class = std::enable_if_t<std::is_integral<NUMBER>::value || sizeof(NUMBER) == sizeof(wide)>>
  constexpr twice_wide(NUMBER number)
      : low(static_cast<unsigned_wide>(number)), high(number < NUMBER(0) ? ~unsigned_wide(0) : unsigned_wide(0)) {}
  constexpr twice_wide(const twice_wide<!SIGNED>& other) : low(other.low), high(other.high) {}

  explicit operator bool() const { return (low | high) != 0; }
  template <class NUMBER, class = std::enable_if_t<!std::is_floating_point<NUMBER>::value>>
  explicit operator NUMBER() const { return static_cast<NUMBER>(low); }

  twice_wide operator~() const { return {~low, ~high}; }
  twice_wide operator&(const twice_wide& other) const { return {low & other.low, high & other.high}; }
  twice_wide operator|(const twice_wide& other) const { return {low | other.low, high | other.high}; }
  twice_wide operator^(const twice_wide& other) const { return {low ^ other.low, high ^ other.high}; }
  twice_wide operator+(const twice_wide& other) const {
    const unsigned_wide sum = low + other.low;
    return {sum, high + other.high + (sum < low)};
  }
  twice_wide operator-(const twice_wide& other) const {
    return {low - other.low, high - other.high - (low < other.low)};
  }
  twice_wide operator*(const twice_wide& other) const {
    const unsigned_wide mask = ~std::uint64_t(0);
    const unsigned_wide a = low & mask, b = low >> 64, c = other.low & mask, d = other.low >> 64;
    const unsigned_wide middle = b * c + (a * c >> 64);  // (2**64 - 1)**2 + 2**64 - 1 is below 2**128
    const unsigned_wide next = a * d + (middle & mask);
    return {(next << 64) | (a * c & mask), b * d + (middle >> 64) + (next >> 64) + low * other.high + high * other.low};
  }
  twice_wide operator<<(int places) const {
    if (places == 0) return *this;
    if (places >= 128) return {0, low << (places - 128)};
    return {low << places, (high << places) | (low >> (128 - places))};
  }
  twice_wide operator>>(int places) const {
    const unsigned_wide above = below_zero() ? ~unsigned_wide(0) : unsigned_wide(0);
    if (places == 0) return *this;
    if (places == 128) return {high, above};
    if (places > 128) return {(high >> (places - 128)) | (above << (256 - places)), above};
    return {(low >> places) | (high << (128 - places)), (high >> places) | (above << (128 - places))};
  }
  bool operator==(const twice_wide& other) const { return low == other.low && high == other.high; }
  bool operator!=(const twice_wide& other) const { return !(*this == other); }
  bool operator<(const twice_wide& other) const {
    if (below_zero() != other.below_zero()) return below_zero();
    return high != other.high ? high < other.high : low < other.low;
  }
  bool below_zero() const { return SIGNED && high >> 127 != 0; }
};

template <int BITS>
using unsigned_word =
    std::conditional_t<(BITS > 128), twice_wide<false>, std::conditional_t<(BITS > 64), unsigned_wide, std::uint64_t>>;
template <int BITS>
using signed_word =
    std::conditional_t<(BITS > 128), twice_wide<true>, std::conditional_t<(BITS > 64), wide, std::int64_t>>;
template <int BITS, bool SIGNED>
using word = std::conditional_t<SIGNED, signed_word<BITS>, unsigned_word<BITS>>;

[[noreturn]] inline void refuse(const char* what) {
  std::fprintf(stderr, "%s must not be met: the open ap_int.h has no one rule for it\n", what);
  std::abort();
}

}  // namespace native

template <int BITS, bool SIGNED, bool SHORT>
class ap_private {
 public:
  static constexpr int kept_bits = BITS > 128 ? 256 : BITS > 64 ? 128 : 64;
  static constexpr bool whole = BITS <= 256;
  using word_t = native::word<BITS, SIGNED>;
  using bits_t = native::unsigned_word<BITS>;
  word_t word;

  ap_private() = default;
  template <class NUMBER, class = std::enable_if_t<std::is_integral<NUMBER>::value>>
  ap_private(NUMBER number) : word(wrapped(static_cast<bits_t>(number))) {}
  explicit ap_private(bits_t bits, int) : word(wrapped(bits)) {}
  template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT>
  ap_private(const ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>& other) : word(wrapped(static_cast<bits_t>(other.word))) {}

  // --- C types --------------------------------------------------------------------------------------------------------

  template <class NUMBER, class = std::enable_if_t<std::is_arithmetic<NUMBER>::value && !std::is_same<NUMBER, bool>::value>>
  explicit operator NUMBER() const {
    static_assert(BITS <= 64 || std::is_integral<NUMBER>::value, "only integers are made of so many bits");
    return static_cast<NUMBER>(word);
  }
  explicit operator bool() const {
    static_assert(whole, "upper bits are not kept");
    return word != word_t(0);
  }

  // --- bits -----------------------------------------------------------------------------------------------------------

  bool get_bit(int place) const {
    static_assert(whole, "upper bits are not kept");
    return static_cast<bool>((static_cast<bits_t>(word) >> place) & bits_t(1));
  }
  void set_bit(int place, bool value) {
    const bits_t one = static_cast<bits_t>(1) << place;
    word = wrapped(value ? static_cast<bits_t>(word) | one : static_cast<bits_t>(word) & ~one);
  }

  struct range_of {
    ap_private& of;
    int high, low;
    bits_t mask() const { return high - low + 1 >= kept_bits ? ~bits_t(0) : (bits_t(1) << (high - low + 1)) - bits_t(1); }
    bits_t bits() const { return (static_cast<bits_t>(of.word) >> low) & mask(); }
    template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT>
    operator ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>() const {
      using other = ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>;
      return other(static_cast<typename other::bits_t>(bits()), 0);
    }
    template <class NUMBER, class = std::enable_if_t<std::is_integral<NUMBER>::value>>
    explicit operator NUMBER() const { return static_cast<NUMBER>(bits()); }
    template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT>
    range_of& operator=(const ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>& value) {
      const bits_t placed = (static_cast<bits_t>(value.word) & mask()) << low;
      of.word = wrapped((static_cast<bits_t>(of.word) & ~(mask() << low)) | placed);
      return *this;
    }
  };
  range_of range(int high, int low) const {
    static_assert(whole, "upper bits are not kept");
    return {const_cast<ap_private&>(*this), high, low};
  }

  // --- arithmetic -----------------------------------------------------------------------------------------------------

  // Of one type on both sides, as ap_int_base.h has them: the result has that type.
#define CODESIGN_BINARY(OPERATOR)                                                                          \
  ap_private operator OPERATOR(const ap_private& other) const {                                            \
    return ap_private(static_cast<bits_t>(word) OPERATOR static_cast<bits_t>(other.word), 0);              \
  }                                                                                                        \
  template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT>                                                \
  ap_private& operator OPERATOR##=(const ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>& other) {            \
    word = wrapped(static_cast<bits_t>(word) OPERATOR static_cast<bits_t>(other.word));                    \
    return *this;                                                                                          \
  }
  CODESIGN_BINARY(+)
  CODESIGN_BINARY(-)
  CODESIGN_BINARY(*)
  CODESIGN_BINARY(&)
  CODESIGN_BINARY(|)
  CODESIGN_BINARY(^)
#undef CODESIGN_BINARY
  ap_private operator~() const { return ap_private(~static_cast<bits_t>(word), 0); }

  ap_private operator<<(long long places) const {
    return ap_private(places >= kept_bits ? bits_t(0) : static_cast<bits_t>(word) << static_cast<int>(places), 0);
  }
  ap_private operator>>(long long places) const {
    static_assert(whole, "upper bits are not kept");
    if (places >= BITS) native::refuse("a shift to the right by the whole width");
    return ap_private(static_cast<bits_t>(word >> static_cast<int>(places)), 0);
  }
  ap_private& operator<<=(long long places) { return *this = *this << places; }
  ap_private& operator>>=(long long places) { return *this = *this >> places; }

  // --- order ----------------------------------------------------------------------------------------------------------

  template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT>
  bool operator==(const ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>& other) const {
    return compared(other, [](auto a, auto b) { return a == b; });
  }
  template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT>
  bool operator<(const ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>& other) const {
    return compared(other, [](auto a, auto b) { return a < b; });
  }
  template <class OTHER>
  bool operator!=(const OTHER& other) const { return !(*this == other); }
  template <class OTHER>
  bool operator>(const OTHER& other) const { return other < *this; }
  template <class OTHER>
  bool operator<=(const OTHER& other) const { return !(other < *this); }
  template <class OTHER>
  bool operator>=(const OTHER& other) const { return !(*this < other); }
  bool operator==(int number) const { return *this == ap_private<32, true, true>(number); }
  friend int operator-(int number, const ap_private& other) { return number - static_cast<int>(other); }

  bool below_zero() const {
    if constexpr (SIGNED) return word < word_t(0);
    return false;
  }

 private:
  template <int OTHER, bool OTHER_SIGNED, bool OTHER_SHORT, class OPERATION>
  bool compared(const ap_private<OTHER, OTHER_SIGNED, OTHER_SHORT>& other, OPERATION operation) const {
    static_assert(whole && OTHER <= 256, "upper bits are not kept");
    if (SIGNED != OTHER_SIGNED && (below_zero() || other.below_zero())) {
      native::refuse("a negative number compared with an unsigned one");
    }
    using both = native::word<(BITS > OTHER ? BITS : OTHER), SIGNED && OTHER_SIGNED>;
    return operation(static_cast<both>(word), static_cast<both>(other.word));
  }

  // The low BITS of a word, extended as the type says.
  static word_t wrapped(bits_t bits) {
    if constexpr (BITS >= kept_bits) {
      return static_cast<word_t>(bits);
    } else if constexpr (SIGNED) {
      return static_cast<word_t>(bits << (kept_bits - BITS)) >> (kept_bits - BITS);
    } else {
      return bits & ((bits_t(1) << BITS) - bits_t(1));
    }
  }
};

#endif
