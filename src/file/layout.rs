//! [`Layout`]: where the elements of an array lie in a file. [`FilePlan`]: the header and the layout of a new file.

use super::options::{ArrayOptions, Format};
use crate::element::{Dtype, dtype_mismatch, element_name, no_dtype, opens};
use crate::error::{Error, ErrorKind, Result};
use crate::format::npy::{self, Header};
use crate::geometry::Geometry;
use crate::sys::page_bytes;
use bytemuck::Pod;
use ndarray::{Dimension, IxDyn, Order};
use std::ops::Range;

/// The layout of an array's elements in a file that exists or will be created.
///
/// Invariant: `data_bytes` has the length `geometry.total_bytes()`, and its end is at most `i64::MAX`, the maximum
/// length of a file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) data_bytes: Range<u64>,
}

impl Layout {
    fn new(geometry: Geometry, data_offset: u64) -> Result<Self> {
        let end =
            data_offset.checked_add(geometry.total_bytes() as u64).filter(|&end| i64::try_from(end).is_ok());
        let end = end.ok_or_else(|| {
            let found = format!("{} bytes from byte {data_offset} on", geometry.total_bytes());
            Error::new(ErrorKind::SizeOverflow, "size a file", format!("at most {} bytes", i64::MAX), found)
                .with_remedy("correct the shape or the offset")
        })?;
        Ok(Self { geometry, data_bytes: data_offset..end })
    }

    /// Returns the layout of a raw file, which only the options describe.
    pub(super) fn raw<T: Pod, D: Dimension>(options: &ArrayOptions) -> Result<Self> {
        let (shape, order) = options.shape.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "size an array", "a shape", "none").with_remedy(
                "give one with `ArrayOptions::shape`: only an NPY file that exists knows its own",
            )
        })?;
        dimensions::<D>(shape)?;
        let layout = Self::new(Geometry::new(shape, *order, size_of::<T>())?, options.offset_bytes)?;
        layout.check_alignment::<T>()?;
        Ok(layout)
    }

    /// Returns the layout that the header of an NPY file describes, or an error if the header does not match the
    /// options.
    pub(super) fn npy<T: Pod, D: Dimension>(options: &ArrayOptions, header: &Header) -> Result<Self> {
        let dtype = Dtype::from_descr(&header.descr);
        if !opens::<T>(&dtype) {
            return Err(dtype_mismatch::<T>(&dtype));
        }
        dimensions::<D>(&header.shape)?;
        let order = if header.fortran_order { Order::ColumnMajor } else { Order::RowMajor };
        if let Some((shape, _)) = options.shape.as_ref().filter(|(shape, _)| *shape != header.shape) {
            let found = format!("shape {:?}", header.shape);
            return Err(Error::new(ErrorKind::ShapeMismatch, "open", format!("shape {shape:?}"), found)
                .with_remedy("leave `shape` out: an NPY file knows its own"));
        }
        let layout = Self::new(Geometry::new(&header.shape, order, size_of::<T>())?, header.data_offset)?;
        Ok(layout)
    }

    /// Returns an error if a mapping would not align the elements. A mapping starts at a multiple of the page size, but
    /// not necessarily at a multiple of a larger number.
    pub(super) fn check_alignment<T>(&self) -> Result<()> {
        if self.data_bytes.is_empty() {
            return Ok(());
        }
        if align_of::<T>() > page_bytes() {
            let expected = format!("elements aligned to at most a page of {} bytes", page_bytes());
            let found = format!("{}, aligned to {} bytes", element_name::<T>(), align_of::<T>());
            return Err(Error::new(ErrorKind::Unaligned, "map", expected, found)
                .with_remedy("use an element type with a smaller alignment"));
        }
        match self.data_bytes.start % align_of::<T>() as u64 {
            0 => Ok(()),
            _ => Err(unaligned::<T>(self.data_bytes.start)),
        }
    }
}

impl ArrayOptions {
    /// Returns these options for a new file of this shape. The order is that of the shape in the options, or else C
    /// order. Returns an error if the options contain another shape.
    pub(crate) fn for_shape(&self, shape: &[usize]) -> Result<Self> {
        let order = match &self.shape {
            None => Order::RowMajor,
            Some((wanted, order)) if wanted == shape => *order,
            Some((wanted, _)) => {
                let (expected, found) = (format!("rows of shape {wanted:?}"), format!("shape {shape:?}"));
                return Err(Error::new(ErrorKind::ShapeMismatch, "create", expected, found)
                    .with_remedy("leave `shape` out for C order, or give the shape of the stream"));
            }
        };
        Ok(Self { shape: Some((shape.to_vec(), order)), ..self.clone() })
    }

    /// Returns whether the options contain a shape in Fortran order.
    pub(crate) fn is_fortran(&self) -> bool {
        matches!(self.shape, Some((_, Order::ColumnMajor)))
    }
}

/// The header and the layout of a new file.
#[derive(Clone, Debug)]
pub(super) struct FilePlan {
    /// The bytes before the data. A raw file has none.
    pub(super) header: Vec<u8>,
    pub(super) layout: Layout,
}

impl FilePlan {
    /// Plans a file of this format, or returns an error if there can be no such file. Changes nothing on disk.
    pub(super) fn new<T: Pod, D: Dimension>(options: &ArrayOptions, format: Format) -> Result<Self> {
        options.check_no_rows()?;
        match format {
            Format::Raw => Ok(Self { header: Vec::new(), layout: Layout::raw::<T, D>(options)? }),
            Format::Npy => {
                check_npy_options(options)?;
                let layout = Layout::raw::<T, D>(options)?;
                let header = npy_header::<T>(&layout.geometry)?;
                let data_offset = header.len() as u64;
                Ok(Self { header, layout: Layout::new(layout.geometry, data_offset)? })
            }
        }
    }
}

/// Returns an error if this build does not support NPY, or if the options contain an offset: the offset of an NPY file
/// follows from its header.
pub(super) fn check_npy_options(options: &ArrayOptions) -> Result<()> {
    npy::check_enabled()?;
    match options.offset_bytes {
        0 => Ok(()),
        offset => {
            let found = format!("`offset_bytes({offset})`");
            Err(Error::new(ErrorKind::InvalidInput, "open", "no offset for an NPY file", found)
                .with_remedy("its header says where the data starts; `Format::Raw` takes any offset"))
        }
    }
}

/// Returns the header of a new NPY file.
fn npy_header<T: Pod>(geometry: &Geometry) -> Result<Vec<u8>> {
    let dtype = Dtype::of::<T>().ok_or_else(no_dtype::<T>)?;
    // An array of one dimension has both orders. numpy writes such an array in C order.
    let fortran = matches!(geometry.order(), Order::ColumnMajor) && geometry.shape().len() > 1;
    npy::encode(dtype.descr(), fortran, geometry.shape())
}

/// Returns the error for data at an offset at which no `T` can be aligned.
pub(crate) fn unaligned<T>(data_offset: u64) -> Error {
    let expected = format!("data at a multiple of {} bytes for {}", align_of::<T>(), element_name::<T>());
    Error::new(ErrorKind::Unaligned, "map", expected, format!("data at byte {data_offset}"))
        .with_remedy("open the bytes as `u8` and convert them")
}

/// Converts a shape to `D`, or returns an error that names both numbers of dimensions.
pub(crate) fn dimensions<D: Dimension>(shape: &[usize]) -> Result<D> {
    D::from_dimension(&IxDyn(shape)).ok_or_else(|| {
        let expected = match D::NDIM {
            Some(ndim) => format!("a shape of {ndim} dimensions"),
            None => "a shape".to_owned(),
        };
        let found = format!("{shape:?}, of {} dimensions", shape.len());
        Error::new(ErrorKind::ShapeMismatch, "open", expected, found)
            .with_remedy("`IxDyn` takes any number of dimensions")
    })
}
