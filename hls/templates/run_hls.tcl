# For tools that take Tcl; the component is made in the folder they are started in:
#   vitis_hls -f <path of this file>, or vitis-run --mode hls --tcl <path of this file>
set here [file dirname [file normalize [info script]]]
set flags "-std=c++17 -I$$here/../../include"
if {[llength [info commands open_component]]} {
  open_component -reset component -flow_target vitis
} else {
  open_project -reset component
  open_solution -reset solution -flow_target vitis
}
add_files $$here/kernel.cpp -cflags $$flags -csimflags $$flags
add_files -tb $$here/testbench.cpp -cflags $$flags
$data
set_top $name
set_part $part
create_clock -period ${clock_mhz}MHz -name default
csynth_design
exit
