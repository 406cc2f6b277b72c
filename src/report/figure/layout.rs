//! Where the parts of a figure go.

use super::canvas::text_width;
use super::{Figure, Panel};

/// Text sizes.
pub const TITLE: u32 = 22;
/// Of the line below the title.
pub const SUBTITLE: u32 = 15;
/// Above a panel.
pub const PANEL_TITLE: u32 = 17;
/// Of axes and legend.
pub const LABEL: u32 = 16;
/// Of marks.
pub const MARK: u32 = 14;

/// Pixels that the stroke before a legend's label takes.
pub const KEY: u32 = 36;
const KEY_GAP: u32 = 22;
const KEY_ROW: u32 = 25;
const TOP: u32 = 44;
const SUBTITLE_ROW: u32 = 20;
const ABOVE_PANEL: u32 = 30;
const BELOW_PANEL: u32 = 51;
const MARGIN: u32 = 16;

/// A rectangle between two axes.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Left edge.
    pub left: i32,
    /// Top edge.
    pub top: i32,
    /// Right edge.
    pub right: i32,
    /// Bottom edge.
    pub bottom: i32,
}

/// Places of everything in a figure.
pub struct Layout {
    /// Width and height.
    pub size: (u32, u32),
    /// Where each entry of the legend begins, its middle in height.
    pub keys: Vec<(i32, i32)>,
    /// Of each panel.
    pub frames: Vec<Frame>,
}

impl Layout {
    /// Measures a figure's texts and gives each part its place.
    pub fn of(figure: &Figure) -> Self {
        let columns = figure.columns.clamp(1, figure.panels.len().max(1));
        let lefts: Vec<u32> = (0..columns)
            .map(|column| {
                let panels = figure.panels.iter().skip(column).step_by(columns);
                panels.map(|p| left_of(p, figure.panel)).max().unwrap_or(0)
            })
            .collect();
        let panels_width = lefts.iter().map(|left| left + figure.panel.0 + MARGIN).sum::<u32>() + MARGIN;
        let titles = text_width(&figure.title, TITLE).max(text_width(&figure.subtitle, SUBTITLE));
        let width = panels_width.max(titles + 2 * MARGIN);
        let top = TOP + if figure.subtitle.is_empty() { 0 } else { SUBTITLE_ROW };
        let rows = key_rows(figure, width - 2 * MARGIN);
        let mut keys = Vec::new();
        for (row, widths) in rows.iter().enumerate() {
            let total = widths.iter().sum::<u32>() - KEY_GAP;
            let mut x = (width - total.min(width)) / 2;
            for key in widths {
                keys.push((x as i32, (top + row as u32 * KEY_ROW + KEY_ROW / 2) as i32));
                x += key;
            }
        }
        let body = top + rows.len() as u32 * KEY_ROW + 4;
        let frames = (0..figure.panels.len()).map(|at| {
            let (row, column) = ((at / columns) as u32, at % columns);
            let before: u32 = lefts[..column].iter().map(|left| left + figure.panel.0 + MARGIN).sum();
            let left = MARGIN / 2 + (width - panels_width) / 2 + before + lefts[column];
            let top = body + row * (ABOVE_PANEL + figure.panel.1 + BELOW_PANEL) + ABOVE_PANEL;
            let (right, bottom) = (left + figure.panel.0, top + figure.panel.1);
            Frame { left: left as i32, top: top as i32, right: right as i32, bottom: bottom as i32 }
        });
        let frames: Vec<Frame> = frames.collect();
        let height = frames.last().map_or(body, |f| f.bottom as u32 + BELOW_PANEL + 4);
        Self { size: (width, height), keys, frames }
    }
}

/// What a panel needs left of its axis.
fn left_of(panel: &Panel, size: (u32, u32)) -> u32 {
    if panel.y.bare {
        return 6;
    }
    let marks = panel.settled(size).1.marks;
    let widest = marks.iter().map(|(_, text)| text_width(text, MARK)).max().unwrap_or(0);
    widest + 10 + if panel.y.label.is_empty() { 0 } else { LABEL + 8 }
}

/// The legend's entries, by rows that fit: the width that each takes.
fn key_rows(figure: &Figure, room: u32) -> Vec<Vec<u32>> {
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for key in &figure.legend {
        let width = KEY + text_width(&key.label, LABEL) + KEY_GAP;
        match rows.last_mut() {
            Some(row) if row.iter().sum::<u32>() + width <= room + KEY_GAP => row.push(width),
            _ => rows.push(vec![width]),
        }
    }
    rows
}
