//! PNG with a palette: a third of the size that true colour takes, which counts in a repository.

use std::collections::BTreeMap;

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError, FilterType};

type Color = [u8; 3];

/// Encodes an image of at most 256 colours as it is; of more, the rarest (shades at the edges of letters) become the nearest of
/// the others.
///
/// # Errors
/// If the pixels are not as many as the size says.
pub fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, EncodingError> {
    let (palette, place) = palette(pixels);
    let indices: Vec<u8> = pixels.as_chunks::<3>().0.iter().map(|color| place[color]).collect();
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_compression(Compression::Best);
    // Filters predict shades from their neighbours; numbers of colours have nothing to predict.
    encoder.set_filter(FilterType::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&indices)?;
    writer.finish()?;
    Ok(out)
}

/// The most frequent colours, and which of them stands for each.
fn palette(pixels: &[u8]) -> (Vec<Color>, BTreeMap<Color, u8>) {
    let mut counts: BTreeMap<Color, usize> = BTreeMap::new();
    for color in pixels.as_chunks::<3>().0 {
        *counts.entry(*color).or_default() += 1;
    }
    let mut colors: Vec<Color> = counts.keys().copied().collect();
    // The sort is stable: equal counts stay in the order of the colours.
    colors.sort_by_key(|color| std::cmp::Reverse(counts[color]));
    let palette: Vec<Color> = colors.iter().take(256).copied().collect();
    let distance =
        |a: &Color, b: &Color| -> i32 { a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2)).sum() };
    let nearest = |color: &Color| (0..palette.len()).min_by_key(|&at| distance(&palette[at], color)).unwrap_or(0) as u8;
    let place = colors.iter().map(|color| (*color, nearest(color))).collect();
    (palette, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_colours_become_the_nearest_frequent_ones() {
        // 300 greys and blues, the first 256 of them twice.
        let color = |i: usize| if i < 256 { [i as u8; 3] } else { [0, 0, (i - 255) as u8] };
        let pixels: Vec<u8> = (0..300).chain(0..256).flat_map(color).collect();
        let (palette, place) = palette(&pixels);
        assert_eq!(palette.len(), 256);
        assert_eq!(palette[usize::from(place[&[7, 7, 7]])], [7, 7, 7]);
        assert_eq!(palette[usize::from(place[&[0, 0, 2]])], [1, 1, 1]);
        assert!(encode(&pixels, (139, 4)).is_ok());
        assert!(encode(&pixels, (139, 5)).is_err());
    }
}
