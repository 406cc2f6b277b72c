//! Two architectures on one model: which keeps more at equal L0?

use super::{Analysis, Cell, Given, Score, Turned, at_equal, behaviour, on_all, r2};

/// A cell of one architecture against the SAEs of another at the same model, site and budget.
pub struct Contrast<'a> {
    /// The cell, of the later architecture of the spec.
    pub cell: &'a Cell,
    /// The earlier architecture.
    pub against: String,
    /// The cell's measured L0.
    pub l0: Score,
    /// Its R² minus that of the other architecture at the same L0, linear in ln L0 between neighbours; `None` where the cell's L0 lies
    /// outside the range that was measured of the other.
    pub r2: Option<Score>,
    /// Likewise of the pooled CE_rec.
    pub ce_rec: Option<Score>,
    /// R² minus that of the other's cell of the same k, where there is one.
    pub r2_at_k: Option<Score>,
    /// Likewise of the pooled CE_rec.
    pub ce_rec_at_k: Option<Score>,
}

/// Every cell against every architecture that comes earlier in the spec, in the order of the cells; none with one architecture. Those that nothing
/// can be said of are left out.
pub fn contrasts<'a>(analysis: &'a Analysis<'_>) -> Vec<Contrast<'a>> {
    let architectures = analysis.grid.architectures();
    let earlier = |cell: &'a Cell| {
        let before = architectures.iter().take_while(|a| **a != cell.setting.architecture);
        before.map(move |against| contrast(analysis, cell, against))
    };
    let says = |c: &Contrast<'_>| [c.r2, c.ce_rec, c.r2_at_k, c.ce_rec_at_k].iter().any(Option::is_some);
    analysis.cells.iter().flat_map(earlier).filter(says).collect()
}

fn contrast<'a>(analysis: &Analysis<'_>, cell: &'a Cell, against: &str) -> Contrast<'a> {
    let path = analysis.path(&cell.model, &cell.site, cell.budget, against);
    let ce_rec = behaviour("ce_rec_pooled").turned();
    let at_l0 = |turned: Turned| at_equal(analysis, &path, cell, turned, Given::L0);
    let same_k = path.iter().find(|other| other.setting.k.is_some() && other.setting.k == cell.setting.k);
    let at_k = |(quantity, _): Turned| same_k.map(|other| analysis.difference(other, cell, quantity));
    Contrast {
        cell,
        against: against.to_owned(),
        l0: analysis.score(cell, on_all("l0")),
        r2: at_l0(r2()),
        ce_rec: at_l0(ce_rec),
        r2_at_k: at_k(r2()),
        ce_rec_at_k: at_k(ce_rec),
    }
}
