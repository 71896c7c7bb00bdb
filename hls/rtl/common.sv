// Parts that every PE uses: an optional register stage and an exact signed adder tree.
//
// Conventions of all files in this folder:
//   * one clock `clk`, no reset; `clear` in the cycle of an input starts a new sum with that input;
//   * lane i of a packed port of LANES elements of B bits lies at bits [i*B +: B];
//   * INPUT_REGISTER = 1 registers every input first, PRODUCT_REGISTER = 1 puts a register between multiplying and
//     adding; the result lies in `accumulator` after 1 + INPUT_REGISTER + PRODUCT_REGISTER clock edges.

// q follows d, one edge later if ENABLE.
module pipeline_register #(
    parameter int WIDTH = 1,
    parameter bit ENABLE = 0
) (
    input  logic             clk,
    input  logic [WIDTH-1:0] d,
    output logic [WIDTH-1:0] q
);
  if (ENABLE) begin : registered
    always_ff @(posedge clk) q <= d;
  end else begin : wired
    assign q = d;
  end
endmodule

// sum = the LANES signed terms of WIDTH bits, exact: WIDTH + ceil(log2 LANES) bits. Each level is one bit wider.
module adder_tree #(
    parameter int LANES = 2,
    parameter int WIDTH = 8,
    localparam int SUM_BITS = WIDTH + $clog2(LANES)
) (
    input  logic        [LANES*WIDTH-1:0] terms,
    output logic signed [   SUM_BITS-1:0] sum
);
  if (LANES == 1) begin : leaf
    assign sum = $signed(terms);
  end else begin : node
    localparam int LEFT = (LANES + 1) / 2;
    localparam int RIGHT = LANES - LEFT;
    wire signed [WIDTH+$clog2(LEFT)-1:0] left;
    wire signed [WIDTH+$clog2(RIGHT)-1:0] right;
    adder_tree #(.LANES(LEFT), .WIDTH(WIDTH)) left_tree (.terms(terms[0+:LEFT*WIDTH]), .sum(left));
    adder_tree #(.LANES(RIGHT), .WIDTH(WIDTH)) right_tree (.terms(terms[LEFT*WIDTH+:RIGHT*WIDTH]), .sum(right));
    assign sum = left + right;
  end
endmodule

// zeros = how many zeros stand above the highest one of value; WIDTH if there is none. Halves, so log2 WIDTH levels.
module leading_zeros #(
    parameter int WIDTH = 8,
    localparam int COUNT_BITS = $clog2(WIDTH + 1)
) (
    input  logic [     WIDTH-1:0] value,
    output logic [COUNT_BITS-1:0] zeros
);
  if (WIDTH == 1) begin : leaf
    assign zeros = ~value;
  end else begin : node
    localparam int LOW = WIDTH / 2;
    localparam int HIGH = WIDTH - LOW;
    wire [$clog2(HIGH+1)-1:0] high_zeros;
    wire [$clog2(LOW+1)-1:0] low_zeros;
    leading_zeros #(.WIDTH(HIGH)) high_half (.value(value[WIDTH-1:LOW]), .zeros(high_zeros));
    leading_zeros #(.WIDTH(LOW)) low_half (.value(value[LOW-1:0]), .zeros(low_zeros));
    assign zeros = |value[WIDTH-1:LOW] ? COUNT_BITS'(high_zeros) : COUNT_BITS'(HIGH) + COUNT_BITS'(low_zeros);
  end
endmodule
