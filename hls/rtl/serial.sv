// Serial PEs: one operand arrives bit by bit or term by term, so that its width is a number of cycles, not of wires.

// Bit-serial dot product (Stripes, Judd et al., MICRO 2016; BISMO, Umuroglu et al., FPL 2018): each cycle brings one
// bit of each of LANES serial operands, most significant first, and the AND with the parallel operands is summed and
// shifted in. `first` marks the first bit (two's complement: subtracted if SERIAL_SIGNED), `last` the last. The finished
// dot product is added to the accumulator, or replaces it if `clear`, in the last cycle.
// ACCUMULATE = 0 leaves that second adder out: `accumulator` is then the running dot product of LANES products alone.
module bit_serial_dot #(
    parameter int PARALLEL_BITS = 8,
    parameter int SERIAL_BITS = 8,  // largest number of cycles
    parameter bit SERIAL_SIGNED = 1,
    parameter int LANES = 16,
    parameter int ACCUMULATOR_BITS = PARALLEL_BITS + SERIAL_BITS + 10,
    parameter bit ACCUMULATE = 1
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic                               first,
    input  logic                               last,
    input  logic                   [LANES-1:0] serial,
    input  logic     [LANES*PARALLEL_BITS-1:0] parallel_,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int SUM_BITS = PARALLEL_BITS + $clog2(LANES);
  localparam int PARTIAL_BITS = ACCUMULATE ? SUM_BITS + SERIAL_BITS : ACCUMULATOR_BITS;
  wire [LANES*PARALLEL_BITS-1:0] gated;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    assign gated[lane*PARALLEL_BITS+:PARALLEL_BITS] = parallel_[lane*PARALLEL_BITS+:PARALLEL_BITS] & {PARALLEL_BITS{serial[lane]}};
  end
  wire signed [SUM_BITS-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(PARALLEL_BITS)) tree (.terms(gated), .sum(sum));
  logic signed [PARTIAL_BITS-1:0] partial;
  wire signed [PARTIAL_BITS-1:0] shifted = first ? PARTIAL_BITS'(0) : (partial <<< 1);
  wire negate = first && SERIAL_SIGNED;
  wire signed [PARTIAL_BITS-1:0] next = negate ? shifted - PARTIAL_BITS'(sum) : shifted + PARTIAL_BITS'(sum);
  always_ff @(posedge clk) partial <= next;
  if (ACCUMULATE) begin : accumulating
    always_ff @(posedge clk)
      if (last) accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(next);
  end else begin : single
    assign accumulator = partial;
  end
endmodule

// Both operands serial (Loom, Sharify et al., DAC 2018; BISMO): AND, popcount, shift by the bits' weight, accumulate.
// `shift` is the sum of the two bit positions, `negate` says that exactly one of the two planes is a sign plane.
module bit_bit_dot #(
    parameter int LANES = 16,
    parameter int SHIFT_BITS = 4,
    parameter int ACCUMULATOR_BITS = 32
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic                               negate,
    input  logic              [SHIFT_BITS-1:0] shift,
    input  logic                   [LANES-1:0] weight,
    input  logic                   [LANES-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int COUNT_BITS = $clog2(LANES + 1);
  wire [LANES-1:0] both = weight & activation;
  logic [COUNT_BITS-1:0] count;
  always_comb begin
    count = '0;
    for (int i = 0; i < LANES; i++) count = count + COUNT_BITS'(both[i]);
  end
  wire [COUNT_BITS+2**SHIFT_BITS-2:0] placed = {{(2 ** SHIFT_BITS - 1) {1'b0}}, count} << shift;
  wire signed [ACCUMULATOR_BITS-1:0] base = clear ? ACCUMULATOR_BITS'(0) : accumulator;
  always_ff @(posedge clk)
    accumulator <= negate ? base - ACCUMULATOR_BITS'(placed) : base + ACCUMULATOR_BITS'(placed);
endmodule

// Term-serial dot product (Pragmatic, Bitlet, BBS): each cycle brings one signed power of two of each of LANES weights
// (valid, sign, shift); the activation is shifted and added. Integer activations, exact.
module term_serial_dot #(
    parameter int ACTIVATION_BITS = 8,
    parameter int SHIFT_BITS = 3,
    parameter int LANES = 4,
    parameter int ACCUMULATOR_BITS = ACTIVATION_BITS + 2**SHIFT_BITS + 10,
    parameter bit INPUT_REGISTER = 0
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic                   [LANES-1:0] valid,
    input  logic                   [LANES-1:0] sign,
    input  logic        [LANES*SHIFT_BITS-1:0] shift,
    input  logic   [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int TERM_BITS = ACTIVATION_BITS + 2**SHIFT_BITS;
  wire clear_in;
  wire [LANES-1:0] v, s;
  wire [LANES*SHIFT_BITS-1:0] places;
  wire [LANES*ACTIVATION_BITS-1:0] a;
  pipeline_register #(.WIDTH(1 + LANES * (2 + SHIFT_BITS + ACTIVATION_BITS)), .ENABLE(INPUT_REGISTER)) stage
      (.clk(clk), .d({clear, valid, sign, shift, activation}), .q({clear_in, v, s, places, a}));
  wire [LANES*TERM_BITS-1:0] terms;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    wire signed [ACTIVATION_BITS:0] extended = $signed(a[lane*ACTIVATION_BITS+:ACTIVATION_BITS]);
    wire signed [ACTIVATION_BITS:0] chosen = v[lane] ? (s[lane] ? -extended : extended) : '0;
    wire signed [TERM_BITS-1:0] wide = TERM_BITS'(chosen);
    assign terms[lane*TERM_BITS+:TERM_BITS] = wide <<< places[lane*SHIFT_BITS+:SHIFT_BITS];
  end
  wire signed [TERM_BITS+$clog2(LANES)-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(TERM_BITS)) tree (.terms(terms), .sum(sum));
  always_ff @(posedge clk)
    accumulator <= (clear_in ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule
