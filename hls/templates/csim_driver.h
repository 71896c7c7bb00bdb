// Drives a PE: reads its inputs cycle by cycle, calls `step`, writes its outputs. Included by the program that
// hls/pe_program.py writes, which defines run_unit. This runs on the host only and is not for synthesis.
//
// File from stdin, 64-bit words: cycles, cases, number of inputs, their widths; then by case, cycle and input. To
// stdout: the widths of the outputs, then by case, cycle and output.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using word = std::uint64_t;

// Ports in a file: each takes whole words, lowest first.
template <class PORT>
constexpr int words_of = (PORT::width + 63) / 64;

template <class PORT>
void read_port(PORT& port, const word*& from) {
  if constexpr (PORT::width <= 64) {
    port = *from;
  } else {
    for (int i = 0; i < words_of<PORT>; ++i) {
      const int last = 64 * i + 63 < PORT::width ? 64 * i + 63 : PORT::width - 1;
      port.range(last, 64 * i) = ap_uint<64>(from[i]);
    }
  }
  from += words_of<PORT>;
}

template <class PORT>
void write_port(const PORT& port, std::vector<word>& to) {
  const ap_uint<words_of<PORT> * 64> bits = ap_uint<PORT::width>(port);
  for (int i = 0; i < words_of<PORT>; ++i) to.push_back(word(bits.range(64 * i + 63, 64 * i).to_uint64()));
}

template <class... ARGUMENTS>
struct bench {  // of a step with these arguments: values are inputs, references are outputs
  template <class CALL>
  static void run(const word* from, std::vector<word>& to, long cycles, const CALL& call) {
    std::tuple<std::remove_reference_t<ARGUMENTS>...> ports;
    for (long cycle = 0; cycle < cycles; ++cycle) {
      std::apply([&](auto&... port) { (read_if<ARGUMENTS>(port, from), ...); }, ports);
      std::apply(call, ports);
      std::apply([&](auto&... port) { (write_if<ARGUMENTS>(port, to), ...); }, ports);
    }
  }
  template <class ARGUMENT, class PORT>
  static void read_if(PORT& port, const word*& from) {
    if constexpr (!std::is_reference_v<ARGUMENT>) read_port(port, from);
  }
  template <class ARGUMENT, class PORT>
  static void write_if(const PORT& port, std::vector<word>& to) {
    if constexpr (std::is_reference_v<ARGUMENT>) write_port(port, to);
  }
  static void widths(bool outputs, std::vector<word>& to) {
    (push_width<ARGUMENTS>(outputs, to), ...);
  }
  template <class ARGUMENT>
  static void push_width(bool outputs, std::vector<word>& to) {
    if (std::is_reference_v<ARGUMENT> == outputs) to.push_back(std::remove_reference_t<ARGUMENT>::width);
  }
};

template <class BENCH, class CASE>
std::vector<word> run_cases(const std::vector<word>& file, const CASE& one_case) {
  std::vector<word> widths, out;
  BENCH::widths(false, widths);
  long row = 0;
  for (word width : widths) row += (width + 63) / 64;
  const long cycles = file[0], cases = file[1];
  const bool same = file[2] == widths.size() && std::equal(widths.begin(), widths.end(), file.begin() + 3);
  if (!same) {
    std::fprintf(stderr, "inputs must have");
    for (word width : widths) std::fprintf(stderr, " %d", int(width));
    std::fprintf(stderr, " bits, not");
    for (word i = 0; i < file[2]; ++i) std::fprintf(stderr, " %d", int(file[3 + i]));
    std::exit(3);
  }
  BENCH::widths(true, out);
  const word* from = file.data() + 3 + widths.size();
  for (long i = 0; i < cases; ++i) one_case(from + i * cycles * row, out, cycles);
  return out;
}

template <class PE, class... ARGUMENTS>
std::vector<word> drive(void (PE::*step)(ARGUMENTS...), const std::vector<word>& file) {
  return run_cases<bench<ARGUMENTS...>>(file, [&](const word* from, std::vector<word>& to, long cycles) {
    PE pe;
    bench<ARGUMENTS...>::run(from, to, cycles, [&](auto&... port) { (pe.*step)(port...); });
  });
}

template <class... ARGUMENTS>
std::vector<word> drive(void (*step)(ARGUMENTS...), const std::vector<word>& file) {
  return run_cases<bench<ARGUMENTS...>>(file, [&](const word* from, std::vector<word>& to, long cycles) {
    bench<ARGUMENTS...>::run(from, to, cycles, [&](auto&... port) { step(port...); });
  });
}

// An arithmetic of layer.h as a PE: `value` as the bits of a float32.
template <class ARITHMETIC>
struct arithmetic_pe {
  static constexpr int lanes = ARITHMETIC::lanes;
  using sum_t = typename ARITHMETIC::sum_t;
  using selector_t = ap_uint<ARITHMETIC::selector_bits ? ARITHMETIC::selector_bits : 1>;
  sum_t held;
  arithmetic_pe() { ARITHMETIC::clear(held); }
  void step(ap_uint<1> clear, ap_uint<lanes * ARITHMETIC::weight_bits> weight,
            ap_uint<lanes * ARITHMETIC::activation_bits> activation, selector_t selector, sum_t& sum,
            ap_uint<32>& value) {
    ap_uint<ARITHMETIC::weight_bits> w[lanes];
    ap_uint<ARITHMETIC::activation_bits> a[lanes];
    codesign::lanes_of<ARITHMETIC::weight_bits, lanes>(weight, w);
    codesign::lanes_of<ARITHMETIC::activation_bits, lanes>(activation, a);
    if (clear) ARITHMETIC::clear(held);
    ARITHMETIC::accumulate(held, w, a, selector);
    sum = held;
    value = codesign::bits_of_float(ARITHMETIC::value(held));
  }
};

std::vector<word> run_unit(int unit, const std::vector<word>& file);

int main(int, char** argv) {
  std::vector<word> file;
  word buffer[4096];
  while (const std::size_t count = std::fread(buffer, sizeof(word), 4096, stdin)) {
    file.insert(file.end(), buffer, buffer + count);
  }
  const std::vector<word> out = run_unit(std::atoi(argv[1]), file);
  return std::fwrite(out.data(), sizeof(word), out.size(), stdout) == out.size() ? 0 : 4;
}
