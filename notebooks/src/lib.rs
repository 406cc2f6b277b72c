//! The code cells of the notebooks in this directory, each notebook a test: what changes in the library can't break them
//! unnoticed. `build.rs` takes them from the notebooks; like a kernel, the tests run in the notebooks' directory. What the cells show is
//! compared with the outputs that are committed.

#[cfg(test)]
#[allow(clippy::all, clippy::pedantic, unused, reason = "cells are written for readers of notebooks")]
mod cells {
    include!(concat!(env!("OUT_DIR"), "/cells.rs"));
}

#[cfg(test)]
mod outputs;
