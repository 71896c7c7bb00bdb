"""The headers as hardware runs their DATAFLOW regions: each process a thread, each stream as deep as its pragma states.

C simulation runs the processes of a region one after another over streams that hold any number, so a stream that is too
shallow goes unseen. ``write_threaded_headers`` rewrites every region of the headers: its calls become threads; a local
array between two calls of a loop is a ping-pong buffer, which is filled at most two iterations ahead of its reader;
outside of loops the two calls run one after the other, as a buffer is handed on when it is whole. A stream without a
pragma holds two values (AMD UG1399). A thread that waits too long ends the program with status ``STUCK``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hls.ap_types import INCLUDE

STUCK = 9

_STREAM_H = """#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>
namespace hls {
template <class CONDITION>
void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, const char* what,
                CONDITION holds) {
  if (changed.wait_for(lock, std::chrono::seconds(@PATIENCE@), holds)) return;
  std::fprintf(stderr, "stuck: %s\\n", what);
  std::_Exit(@STUCK@);
}
template <class T>
class stream {
 public:
  explicit stream(const char* = "") {}
  stream(const stream&) = delete;
  void set_depth(std::size_t depth) { depth_ = depth; }
  void write(const T& value) {
    std::unique_lock<std::mutex> lock(mutex_);
    wait_until(changed_, lock, "a writer", [&] { return held_.size() < depth_; });
    held_.push_back(value);
    changed_.notify_all();
  }
  T read() {
    std::unique_lock<std::mutex> lock(mutex_);
    wait_until(changed_, lock, "a reader", [&] { return !held_.empty(); });
    T value = held_.front();
    held_.pop_front();
    changed_.notify_all();
    return value;
  }

 private:
  std::size_t depth_ = 2;
  std::deque<T> held_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

class ping_pong {  // of two halves: which iterations filled and emptied them
 public:
  void before_filling(long i) { wait("a ping-pong buffer's writer", [&] { return emptied_ >= i - 1; }); }
  void before_emptying(long i) { wait("a ping-pong buffer's reader", [&] { return filled_ > i; }); }
  void filled() { count(filled_); }
  void emptied() { count(emptied_); }

 private:
  template <class CONDITION>
  void wait(const char* what, CONDITION holds) {
    std::unique_lock<std::mutex> lock(mutex_);
    wait_until(changed_, lock, what, holds);
  }
  void count(long& counter) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++counter;
    changed_.notify_all();
  }
  long filled_ = 0, emptied_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};
}  // namespace hls
"""
_DATAFLOW = "#pragma HLS DATAFLOW\n"
_DEPTH = re.compile(r"#pragma HLS STREAM variable = (\S+) depth = ([^\n]+)\n")
_LOOP = re.compile(r"for \(int (\w+) = 0; [^;]+; \+\+\1\) $")
_STREAMS = ("beat_stream", "float_stream", "hls::stream", "layer_streams", "layer_weights")
_CALL = re.compile(r"^(?:(\w+)\.)?\w+(?:<.*>)?\(.*\)$", re.DOTALL)


@dataclass
class _Region:
    """Statements of a region: what is declared, the arrays among that, the calls."""

    declared: list[str]
    arrays: list[str]
    calls: list[str]


def _statements(body: str) -> _Region:
    text = re.sub(r"//[^\n]*\n", "\n", body)
    depths = "".join(f" {variable}.set_depth({depth});" for variable, depth in _DEPTH.findall(text))
    text = re.sub(r"#pragma[^\n]*\n", "", text)
    made = _Region([], [], [])
    for statement in (" ".join(part.split()) for part in text.split(";")):
        if not statement:
            continue
        if statement.startswith(("constexpr", "[[maybe_unused]]", *_STREAMS)):
            made.declared.append(f"{statement};")
        elif _CALL.match(statement):
            made.calls.append(statement)
        else:  # TYPE name
            made.arrays.append(statement)
    made.declared.append(depths)
    return made


def _once(region: _Region) -> str:
    """A region that runs once: a thread a call, but one for all calls that an array joins."""
    threads: list[tuple[set[str], list[str]]] = []
    names = {declaration.split()[-1] for declaration in region.arrays}
    for call in region.calls:
        used = {name for name in names if re.search(rf"\b{name}\b", call)}
        joined = next((thread for thread in threads if thread[0] & used), None)
        if joined is None:
            threads.append((used, [call]))
        else:
            joined[0].update(used)
            joined[1].append(call)
    declared = "\n".join([f"{declaration};" for declaration in region.arrays] + region.declared)
    started = "\n".join(f"all.emplace_back([&] {{ {'; '.join(calls)}; }});" for _, calls in threads)
    return f"{declared}\nstd::vector<std::thread> all;\n{started}\nfor (auto& one : all) one.join();\n"


def _looped(region: _Region, head: str, index: str) -> str:
    """A loop whose iterations overlap: a thread a call, each with the loop in it."""
    names = [declaration.split()[-1] for declaration in region.arrays]
    declared = [f"{declaration}[2]; hls::ping_pong {declaration.split()[-1]}_turns;" for declaration in region.arrays]
    threads, seen = [], set()
    for call in region.calls:
        before, after, made = "", "", call
        for name in names:
            if re.search(rf"\b{name}\b", call):
                filling = name not in seen
                seen.add(name)
                before += f"{name}_turns.{'before_filling' if filling else 'before_emptying'}({index}); "
                after += f" {name}_turns.{'filled' if filling else 'emptied'}();"
                made = re.sub(rf"\b{name}\b(?!_)", f"{name}[{index} % 2]", made)
        threads.append(f"all.emplace_back([&] {{ {head}{{ {before}{made};{after} }} }});")
    text = "\n".join([*declared, *region.declared, "std::vector<std::thread> all;", *threads])
    return f"{{\n{text}\nfor (auto& one : all) one.join();\n}}\n"


def threaded(text: str) -> str:
    """A header whose DATAFLOW regions run as threads."""
    while _DATAFLOW in text:
        at = text.index(_DATAFLOW)
        begin, depth = at, 0
        while depth >= 0:  # the brace that opens the region
            begin -= 1
            depth += {"}": 1, "{": -1}.get(text[begin], 0)
        end, depth = at, 0
        while depth >= 0:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        region = _statements(text[begin + 1 : end - 1].replace(_DATAFLOW, "", 1))
        assert len(region.calls) > 1, text[begin:end]
        loop = _LOOP.search(text[:begin])
        if loop is None:
            text = f"{text[: begin + 1]}\n{_once(region)}{text[end - 1 :]}"
        else:
            text = f"{text[: loop.start()]}{_looped(region, loop.group(), loop[1])}{text[end:]}"
    return _DEPTH.sub(r"  \1.set_depth(\2);\n", text)  # those of constructors


def write_threaded_headers(folder: Path, *changes: tuple[str, str, str], patience_s: int = 60) -> Path:
    """All headers, and an ``hls_stream.h`` of bounded streams, to be included before any other.

    Args:
        folder: where to.
        changes: name of a header, what is in it, and what is put in its place: to see what a change leads to.
        patience_s: how long a thread may wait.
    """
    (folder / "codesign").mkdir(parents=True)
    stream = _STREAM_H.replace("@PATIENCE@", str(patience_s)).replace("@STUCK@", str(STUCK))
    (folder / "hls_stream.h").write_text(stream)
    for path in sorted((INCLUDE / "codesign").glob("*.h")):
        text = path.read_text(encoding="utf-8")
        for name, old, new in changes:
            if name == path.name:
                assert text.count(old) == 1, (name, old)
                text = text.replace(old, new)
        (folder / "codesign" / path.name).write_text(threaded(text), encoding="utf-8")
    return folder
