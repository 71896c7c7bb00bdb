# For tools that take Tcl; the component is made in the folder they are started in:
#   vitis_hls -f <path of this file>, or vitis-run --mode hls --tcl <path of this file>
set here [file dirname [file normalize [info script]]]
if {[regexp {[^\w./:+@~-]} $$here]} {
  # flags are cut at spaces and read by make and a shell, so that the path to this folder from that of the start is taken
  set from [file split [file normalize [pwd]]]
  set to [file split $$here]
  while {[llength $$from] && [lindex $$from 0] eq [lindex $$to 0]} {
    set from [lrange $$from 1 end]
    set to [lrange $$to 1 end]
  }
  foreach folder $$from {
    set to [linsert $$to 0 ..]
  }
  set here [expr {[llength $$to] ? [file join {*}$$to] : "."}]
  if {[regexp {[^\w./:+@~-]} $$here]} {
    error "the path from the folder of the start must be without spaces and signs of the shell, not '$$here': start as make synth does, in a folder of the export"
  }
}
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
