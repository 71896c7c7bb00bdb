// Integer multiplier, and dot product of LANES integer pairs into one accumulator (LANES = 1 is the MAC).
// Weights are two's complement; activations two's complement, or unsigned (after a ReLU, or with a zero point).

// product = weight * activation, exact.
module int_multiplier #(
    parameter int WEIGHT_BITS = 4,
    parameter int ACTIVATION_BITS = 4,
    parameter bit ACTIVATION_UNSIGNED = 0
) (
    input  logic signed [                WEIGHT_BITS-1:0] weight,
    input  logic        [            ACTIVATION_BITS-1:0] activation,
    output logic signed [WEIGHT_BITS+ACTIVATION_BITS-1:0] product
);
  if (ACTIVATION_UNSIGNED) begin : unsigned_activation
    wire signed [ACTIVATION_BITS:0] extended = $signed({1'b0, activation});
    wire signed [WEIGHT_BITS+ACTIVATION_BITS:0] wide = weight * extended;
    assign product = wide[WEIGHT_BITS+ACTIVATION_BITS-1:0];
  end else begin : signed_activation
    wire signed [ACTIVATION_BITS-1:0] extended = $signed(activation);
    assign product = weight * extended;
  end
endmodule

// accumulator <= (clear ? 0 : accumulator) + sum of LANES products, modulo 2**ACCUMULATOR_BITS.
module int_dot #(
    parameter int WEIGHT_BITS = 4,
    parameter int ACTIVATION_BITS = 4,
    parameter bit ACTIVATION_UNSIGNED = 0,
    parameter int LANES = 1,
    parameter int ACCUMULATOR_BITS = WEIGHT_BITS + ACTIVATION_BITS + 10,
    parameter bit INPUT_REGISTER = 0,
    parameter bit PRODUCT_REGISTER = 0
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic        [LANES*WEIGHT_BITS-1:0] weight,
    input  logic    [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed  [ACCUMULATOR_BITS-1:0] accumulator
);
  localparam int PRODUCT_BITS = WEIGHT_BITS + ACTIVATION_BITS;
  localparam int SUM_BITS = PRODUCT_BITS + $clog2(LANES);
  wire [LANES*WEIGHT_BITS-1:0] w;
  wire [LANES*ACTIVATION_BITS-1:0] a;
  wire clear_in, clear_sum;
  pipeline_register #(.WIDTH(LANES * WEIGHT_BITS), .ENABLE(INPUT_REGISTER)) weight_stage (.clk(clk), .d(weight), .q(w));
  pipeline_register #(.WIDTH(LANES * ACTIVATION_BITS), .ENABLE(INPUT_REGISTER)) activation_stage
      (.clk(clk), .d(activation), .q(a));
  pipeline_register #(.WIDTH(1), .ENABLE(INPUT_REGISTER)) clear_stage (.clk(clk), .d(clear), .q(clear_in));

  wire [LANES*PRODUCT_BITS-1:0] products, held;
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    int_multiplier #(
        .WEIGHT_BITS(WEIGHT_BITS),
        .ACTIVATION_BITS(ACTIVATION_BITS),
        .ACTIVATION_UNSIGNED(ACTIVATION_UNSIGNED)
    ) multiplier (
        .weight(w[lane*WEIGHT_BITS+:WEIGHT_BITS]),
        .activation(a[lane*ACTIVATION_BITS+:ACTIVATION_BITS]),
        .product(products[lane*PRODUCT_BITS+:PRODUCT_BITS])
    );
  end
  pipeline_register #(.WIDTH(LANES * PRODUCT_BITS), .ENABLE(PRODUCT_REGISTER)) product_stage
      (.clk(clk), .d(products), .q(held));
  pipeline_register #(.WIDTH(1), .ENABLE(PRODUCT_REGISTER)) clear_product_stage (.clk(clk), .d(clear_in), .q(clear_sum));

  wire signed [SUM_BITS-1:0] sum;
  adder_tree #(.LANES(LANES), .WIDTH(PRODUCT_BITS)) tree (.terms(held), .sum(sum));
  always_ff @(posedge clk)
    accumulator <= (clear_sum ? ACCUMULATOR_BITS'(0) : accumulator) + ACCUMULATOR_BITS'(sum);
endmodule
