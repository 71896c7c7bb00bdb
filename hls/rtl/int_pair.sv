// Dot product of integers, two products in one multiplier: what a DSP slice is wide enough for. With S bits between them,
//   (w0 + w1 * 2**S) * (a1 + a0 * 2**S) = w0 * a1 + (w0 * a0 + w1 * a1) * 2**S + w1 * a0 * 2**2S,
// and the middle field is the sum of two products. It borrows one where the lowest field is negative.

// sum = w0 * a0 + w1 * a1, exact; element 0 in the low bits of either port.
module int_pair #(
    parameter int WEIGHT_BITS = 4,
    parameter int ACTIVATION_BITS = 8,
    parameter bit ACTIVATION_UNSIGNED = 0,
    localparam int SUM_BITS = WEIGHT_BITS + ACTIVATION_BITS + 1
) (
    input  logic        [    2*WEIGHT_BITS-1:0] weight,
    input  logic        [2*ACTIVATION_BITS-1:0] activation,
    output logic signed [         SUM_BITS-1:0] sum
);
  localparam int FACTOR_BITS = ACTIVATION_BITS + (ACTIVATION_UNSIGNED ? 1 : 0);
  localparam int WEIGHT_PORT_BITS = WEIGHT_BITS + SUM_BITS + 1;  // the low factor may borrow from the high one
  localparam int ACTIVATION_PORT_BITS = FACTOR_BITS + SUM_BITS + 1;
  wire [WEIGHT_BITS-1:0] w0 = weight[WEIGHT_BITS-1:0];
  wire [WEIGHT_BITS-1:0] w1 = weight[2*WEIGHT_BITS-1:WEIGHT_BITS];
  wire [ACTIVATION_BITS-1:0] a0 = activation[ACTIVATION_BITS-1:0];
  wire [ACTIVATION_BITS-1:0] a1 = activation[2*ACTIVATION_BITS-1:ACTIVATION_BITS];

  // Low factor, sign-extended over its field; high factor, less one where the low one is negative: no wide adder.
  wire [WEIGHT_BITS:0] high_weight = {w1[WEIGHT_BITS-1], w1} - (WEIGHT_BITS + 1)'(w0[WEIGHT_BITS-1]);
  wire signed [WEIGHT_PORT_BITS-1:0] weights = {high_weight, {(SUM_BITS - WEIGHT_BITS) {w0[WEIGHT_BITS-1]}}, w0};
  wire signed [ACTIVATION_PORT_BITS-1:0] activations;
  if (ACTIVATION_UNSIGNED) begin : unsigned_activation
    assign activations = {2'b00, a0, {(SUM_BITS - ACTIVATION_BITS) {1'b0}}, a1};
  end else begin : signed_activation
    wire low_sign = a1[ACTIVATION_BITS-1];
    wire [ACTIVATION_BITS:0] high_activation = {a0[ACTIVATION_BITS-1], a0} - (ACTIVATION_BITS + 1)'(low_sign);
    assign activations = {high_activation, {(SUM_BITS - ACTIVATION_BITS) {low_sign}}, a1};
  end
  wire signed [WEIGHT_PORT_BITS+ACTIVATION_PORT_BITS-1:0] product = weights * activations;
  assign sum = product[2*SUM_BITS-1:SUM_BITS] + SUM_BITS'(product[SUM_BITS-1]);
endmodule

// accumulator <= (clear ? 0 : accumulator) + sum of LANES products in pairs; an odd last lane has a multiplier alone.
module int_pair_dot #(
    parameter int WEIGHT_BITS = 4,
    parameter int ACTIVATION_BITS = 8,
    parameter bit ACTIVATION_UNSIGNED = 0,
    parameter int LANES = 2,
    parameter int ACCUMULATOR_BITS = WEIGHT_BITS + ACTIVATION_BITS + 10
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic        [LANES*WEIGHT_BITS-1:0] weight,
    input  logic    [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed  [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int TERM_BITS = WEIGHT_BITS + ACTIVATION_BITS + 1;
  localparam int TERMS = (LANES + 1) / 2;
  wire [TERMS*TERM_BITS-1:0] terms;
  genvar pair;
  for (pair = 0; pair < LANES / 2; pair++) begin : pairs
    int_pair #(
        .WEIGHT_BITS(WEIGHT_BITS), .ACTIVATION_BITS(ACTIVATION_BITS), .ACTIVATION_UNSIGNED(ACTIVATION_UNSIGNED)
    ) multiplier (
        .weight(weight[2*pair*WEIGHT_BITS+:2*WEIGHT_BITS]),
        .activation(activation[2*pair*ACTIVATION_BITS+:2*ACTIVATION_BITS]),
        .sum(terms[pair*TERM_BITS+:TERM_BITS])
    );
  end
  if (LANES % 2 == 1) begin : odd
    wire signed [TERM_BITS-2:0] product;
    int_multiplier #(
        .WEIGHT_BITS(WEIGHT_BITS), .ACTIVATION_BITS(ACTIVATION_BITS), .ACTIVATION_UNSIGNED(ACTIVATION_UNSIGNED)
    ) multiplier (
        .weight(weight[(LANES-1)*WEIGHT_BITS+:WEIGHT_BITS]),
        .activation(activation[(LANES-1)*ACTIVATION_BITS+:ACTIVATION_BITS]),
        .product(product)
    );
    assign terms[(TERMS-1)*TERM_BITS+:TERM_BITS] = TERM_BITS'(product);
  end
  wire signed [TERM_BITS+$clog2(TERMS)-1:0] sum;
  adder_tree #(.LANES(TERMS), .WIDTH(TERM_BITS)) tree (.terms(terms), .sum(sum));
  always_ff @(posedge clk) accumulator <= (clear ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule
