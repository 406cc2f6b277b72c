//! A representation of texts: one row per text, one column per latent, channel or word.

use ndarray::Array2;

/// Numbers in compressed rows, so that the pooled latents of a wide SAE fit into memory; what is not listed is 0.
#[derive(Clone, Debug)]
pub struct Features {
    columns: usize,
    starts: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f64>,
}

impl Features {
    /// No rows yet, of `columns` columns.
    pub fn new(columns: usize) -> Self {
        Self { columns, starts: vec![0], indices: Vec::new(), values: Vec::new() }
    }

    /// Of a dense matrix, `[rows, columns]`.
    pub fn dense(of: &Array2<f64>) -> Self {
        let mut this = Self::new(of.ncols());
        for row in of.rows() {
            this.push(row.iter().enumerate().filter(|(_, value)| **value != 0.0).map(|(at, &value)| (at, value)));
        }
        this
    }

    /// Adds a row of entries, whose columns ascend.
    ///
    /// # Panics
    /// If a column is out of range or not above the one before.
    pub fn push(&mut self, entries: impl IntoIterator<Item = (usize, f64)>) {
        let mut next = 0;
        for (column, value) in entries {
            assert!(next <= column && column < self.columns, "columns of a row ascend below {}", self.columns);
            next = column + 1;
            self.indices.push(column as u32);
            self.values.push(value);
        }
        self.starts.push(self.indices.len());
    }

    /// Texts.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The entries of a row, by column.
    pub fn row(&self, at: usize) -> impl Iterator<Item = (usize, f64)> {
        let entries = self.starts[at]..self.starts[at + 1];
        self.indices[entries.clone()].iter().map(|&column| column as usize).zip(self.values[entries].iter().copied())
    }

    /// The same of some rows, in the order given.
    #[must_use]
    pub fn of_rows(&self, rows: &[usize]) -> Self {
        let mut this = Self::new(self.columns);
        rows.iter().for_each(|&row| this.push(self.row(row)));
        this
    }

    /// Some rows and columns, in the order given: `[rows, columns]`.
    pub fn select(&self, rows: &[usize], columns: &[usize]) -> Array2<f64> {
        let mut place = vec![usize::MAX; self.columns];
        columns.iter().enumerate().for_each(|(at, &column)| place[column] = at);
        let mut out = Array2::zeros((rows.len(), columns.len()));
        for (mut row, &at) in out.rows_mut().into_iter().zip(rows) {
            for (column, value) in self.row(at).filter(|(column, _)| place[*column] != usize::MAX) {
                row[place[column]] = value;
            }
        }
        out
    }

    /// All of it, `[rows, columns]`.
    pub fn to_dense(&self) -> Array2<f64> {
        let rows: Vec<usize> = (0..self.rows()).collect();
        let columns: Vec<usize> = (0..self.columns).collect();
        self.select(&rows, &columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rows_and_columns_come_back_in_the_order_asked_for() {
        let of = array![[0.0, 1.0, 0.0], [2.0, 0.0, -3.0], [0.0, 0.0, 0.0]];
        let features = Features::dense(&of);
        assert_eq!((features.rows(), features.columns()), (3, 3));
        assert_eq!(features.to_dense(), of);
        assert_eq!(features.select(&[1, 0], &[2, 0]), array![[-3.0, 2.0], [0.0, 0.0]]);
        assert_eq!(features.of_rows(&[2, 1]).to_dense(), array![[0.0, 0.0, 0.0], [2.0, 0.0, -3.0]]);
        assert_eq!(features.row(1).collect::<Vec<_>>(), [(0, 2.0), (2, -3.0)]);
    }
}
