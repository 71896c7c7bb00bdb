// Technology map: additions and multiplications on carry chains.
//
// Yosys would merge acc + a * b into one compressor tree of LUTs and leave the carry chains of the fabric unused. Here
// every $add and $sub becomes one $alu (one carry chain), and every $mul whose widths add to more than 6 becomes row
// pairs: rows are the multiplicand gated by one multiplier bit, two rows make one adder, and the pairs are added one
// after the other. Rows run over the narrower operand. In two's complement the top row has negative weight: it is
// subtracted. Smaller products stay LUTs. Equivalence to * is proved by SAT in the tests.

(* techmap_celltype = "$add" *)
module rowpair_add #(
    parameter A_SIGNED = 0, parameter B_SIGNED = 0, parameter A_WIDTH = 1, parameter B_WIDTH = 1, parameter Y_WIDTH = 1
) (
    input [A_WIDTH-1:0] A, input [B_WIDTH-1:0] B, output [Y_WIDTH-1:0] Y
);
  localparam SIGNED = A_SIGNED && B_SIGNED;
  wire [Y_WIDTH-1:0] x, co;
  \$alu #(
      .A_SIGNED(SIGNED), .B_SIGNED(SIGNED), .A_WIDTH(A_WIDTH), .B_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)
  ) chain (.A(A), .B(B), .BI(1'b0), .CI(1'b0), .Y(Y), .X(x), .CO(co));
endmodule

(* techmap_celltype = "$sub" *)
module rowpair_sub #(
    parameter A_SIGNED = 0, parameter B_SIGNED = 0, parameter A_WIDTH = 1, parameter B_WIDTH = 1, parameter Y_WIDTH = 1
) (
    input [A_WIDTH-1:0] A, input [B_WIDTH-1:0] B, output [Y_WIDTH-1:0] Y
);
  localparam SIGNED = A_SIGNED && B_SIGNED;
  wire [Y_WIDTH-1:0] x, co;
  \$alu #(
      .A_SIGNED(SIGNED), .B_SIGNED(SIGNED), .A_WIDTH(A_WIDTH), .B_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)
  ) chain (.A(A), .B(B), .BI(1'b1), .CI(1'b1), .Y(Y), .X(x), .CO(co));
endmodule

(* techmap_celltype = "$mul" *)
module rowpair_mul #(
    parameter A_SIGNED = 0, parameter B_SIGNED = 0, parameter A_WIDTH = 1, parameter B_WIDTH = 1, parameter Y_WIDTH = 1
) (
    input [A_WIDTH-1:0] A, input [B_WIDTH-1:0] B, output [Y_WIDTH-1:0] Y
);
  localparam SIGNED = A_SIGNED && B_SIGNED;
  localparam WIDE = A_WIDTH > B_WIDTH ? A_WIDTH : B_WIDTH;
  localparam ROWS = A_WIDTH > B_WIDTH ? B_WIDTH : A_WIDTH;
  localparam PAIRS = (ROWS + 1) / 2;
  localparam FULL = A_WIDTH + B_WIDTH;
  wire _TECHMAP_FAIL_ = FULL <= 6;

  wire [WIDE-1:0] multiplicand;
  wire [ROWS-1:0] multiplier;
  generate
    if (A_WIDTH > B_WIDTH) begin : a_wide
      assign multiplicand = A;
      assign multiplier = B;
    end else begin : b_wide
      assign multiplicand = B;
      assign multiplier = A;
    end
  endgenerate
  wire extension = SIGNED ? multiplicand[WIDE-1] : 1'b0;
  wire [FULL-1:0] partial [0:PAIRS-1];  // sum of the pairs 0 to k, sign-extended

  genvar k;
  generate
    for (k = 0; k < PAIRS; k = k + 1) begin : pairs
      localparam LOW = 2 * k;
      localparam HIGH = LOW + 1 < ROWS ? LOW + 1 : LOW;
      localparam TWO = LOW + 1 < ROWS;  // an odd number of rows leaves the last one alone
      localparam TOP_NEGATIVE = SIGNED && LOW + 1 == ROWS - 1;
      localparam ALONE_NEGATIVE = SIGNED && LOW == ROWS - 1;
      // row + 2 * next row, WIDE + 2 bits; bit 0 needs no adder
      wire [WIDE+1:0] row = multiplier[LOW] ? {{2{extension}}, multiplicand} : {(WIDE + 2) {1'b0}};
      wire [WIDE+1:0] pair;
      if (TWO) begin : two_rows
        wire [WIDE:0] next_row = multiplier[HIGH] ? {extension, multiplicand} : {(WIDE + 1) {1'b0}};
        wire [WIDE:0] upper, x, co;
        \$alu #(.A_SIGNED(0), .B_SIGNED(0), .A_WIDTH(WIDE + 1), .B_WIDTH(WIDE + 1), .Y_WIDTH(WIDE + 1)) chain (
            .A(row[WIDE+1:1]), .B(next_row), .BI(TOP_NEGATIVE ? 1'b1 : 1'b0), .CI(TOP_NEGATIVE ? 1'b1 : 1'b0),
            .Y(upper), .X(x), .CO(co)
        );
        assign pair = {upper, row[0]};
      end else begin : one_row
        assign pair = row;
      end
      if (k == 0) begin : start
        // ROWS >= 2 whenever a single row would have to be negated here (a 1-bit signed operand): widths above 6.
        wire sign = SIGNED ? pair[WIDE+1] : 1'b0;
        if (ALONE_NEGATIVE) begin : negated
          assign partial[0] = -{{FULL{sign}}, pair};
        end else begin : plain
          assign partial[0] = {{FULL{sign}}, pair};
        end
      end else begin : add
        // The sum so far above 2k, plus this pair; bits below 2k are final.
        localparam SPAN = LOW + WIDE + 2 < FULL ? WIDE + 2 : FULL - LOW;
        wire [SPAN-1:0] upper, x, co;
        \$alu #(.A_SIGNED(0), .B_SIGNED(0), .A_WIDTH(SPAN), .B_WIDTH(SPAN), .Y_WIDTH(SPAN)) chain (
            .A(partial[k-1][LOW+:SPAN]), .B(pair[SPAN-1:0]),
            .BI(ALONE_NEGATIVE ? 1'b1 : 1'b0), .CI(ALONE_NEGATIVE ? 1'b1 : 1'b0), .Y(upper), .X(x), .CO(co)
        );
        wire sign = SIGNED ? upper[SPAN-1] : 1'b0;
        assign partial[k] = {{FULL{sign}}, upper, partial[k-1][LOW-1:0]};
      end
    end
  endgenerate
  wire sign = SIGNED ? partial[PAIRS-1][FULL-1] : 1'b0;
  assign Y = {{Y_WIDTH{sign}}, partial[PAIRS-1]};
endmodule
