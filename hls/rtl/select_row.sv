// One row of a table, by its number: a multiplexer for each bit, so that no synthesis multiplies the number by a width.
module select_row #(
    parameter int NUMBER_BITS = 4,
    parameter int WIDTH = 8
) (
    input  logic [WIDTH*2**NUMBER_BITS-1:0] rows,  // row i at [i*WIDTH +: WIDTH]
    input  logic [         NUMBER_BITS-1:0] number,
    output logic [               WIDTH-1:0] row
);
  genvar place, i;
  for (place = 0; place < WIDTH; place++) begin : places
    wire [2**NUMBER_BITS-1:0] plane;
    for (i = 0; i < 2**NUMBER_BITS; i++) begin : numbers
      assign plane[i] = rows[i*WIDTH+place];
    end
    assign row[place] = plane[number];
  end
endmodule
