//! The f32 product on the CPU.

use gemm::Parallelism;

/// A matrix that lies in a slice: element (i, j) at `i · strides[0] + j · strides[1]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The slice; it may be longer than the matrix.
    pub values: &'a [f32],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// From one row to the next, and from one column to the next.
    pub strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A matrix of rows that start `pitch` apart.
    pub fn rows(values: &'a [f32], shape: [usize; 2], pitch: usize) -> Self {
        Self { values, shape, strides: [pitch, 1] }
    }

    /// The same numbers, rows as columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        let ([m, n], [row, column]) = (self.shape, self.strides);
        Self { values: self.values, shape: [n, m], strides: [column, row] }
    }

    /// Whether every element lies in the slice.
    fn fits(&self) -> bool {
        let last = |axis: usize| (self.shape[axis].checked_sub(1)?).checked_mul(self.strides[axis]);
        match last(0).zip(last(1)) {
            Some((row, column)) => row.checked_add(column).is_some_and(|last| last < self.values.len()),
            None => self.shape.contains(&0),
        }
    }
}

/// `out = a·b`, on the thread that asks for it: for whoever has many of them to share out. Each element is summed in the order of the
/// columns of `a`, so that it depends neither on the other rows nor on threads.
///
/// # Shapes
/// - `a`: `[m, k]`; `b`: `[k, n]`; `out`: `[m, n]`, in rows that start `pitch` apart, at least n
///
/// # Panics
/// If the shapes don't fit together, or a matrix is larger than its slice.
pub fn product(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], pitch: usize) {
    multiply(a, b, out, pitch, Parallelism::None);
}

/// [`product`] on all threads, if it is worth their while.
pub fn shared_product(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], pitch: usize) {
    multiply(a, b, out, pitch, Parallelism::Rayon(0));
}

fn multiply(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], pitch: usize, threads: Parallelism) {
    let ([m, k], [depth, n]) = (a.shape, b.shape);
    assert!(k == depth && a.fits() && b.fits(), "a product of {:?} and {:?}", a.shape, b.shape);
    assert!(pitch >= n && Matrix::rows(out, [m, n], pitch).fits(), "a product of {m} × {n} in {} floats", out.len());
    let [a_row, a_column] = a.strides.map(|stride| stride as isize);
    let [b_row, b_column] = b.strides.map(|stride| stride as isize);
    let (a, b) = (a.values.as_ptr(), b.values.as_ptr());
    // SAFETY: the assertions make every element that these strides reach lie within its slice, and `out` is not shared.
    #[expect(unsafe_code, reason = "the matrix product takes pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            pitch as isize,
            false,
            a,
            a_column,
            a_row,
            b,
            b_column,
            b_row,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_factors_give_the_product_and_leave_the_gaps() {
        let a: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..12).map(|i| 1.0 - i as f32).collect();
        // Three rows of two in rows of five, the columns of four rows of three.
        let a = Matrix::rows(&a, [3, 2], 5);
        let b = Matrix::rows(&b, [4, 2], 3).transposed();
        for multiply in [product, shared_product] {
            let mut out = [7.0; 3 * 6];
            multiply(a, b, &mut out[1..], 6);
            for (i, row) in out.chunks(6).enumerate() {
                assert_eq!((row[0], row[5]), (7.0, 7.0));
                for (j, &value) in row[1..5].iter().enumerate() {
                    let at = |p: usize| (5 * i + p) as f32 * (1.0 - (3 * j + p) as f32);
                    assert_eq!(value, at(0) + at(1));
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a product of")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        let values = [0.0; 9];
        product(Matrix::rows(&values, [2, 5], 5), Matrix::rows(&values, [5, 1], 1), &mut [0.0; 2], 1);
    }
}
