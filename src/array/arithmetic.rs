//! Arithmetic: the operators between a `&MmapArray` and arrays, views, numbers and other `&MmapArray`s, and `dot`.
//!
//! Each operator does what ndarray's operator does for the [`ArrayRef`] to which the array dereferences. The result is an
//! array in memory. Where ndarray reuses the memory of an operand, these operators do, too.
//!
//! Rust's coherence rules exclude a generic implementation for numbers, because ndarray's trait of numbers is foreign. So
//! there is one for each type of numbers. Operands without an implementation here, such as an `ArcArray` by value, are
//! passed by reference.

use super::MmapArray;
use crate::access::{Access, Writable};
use ndarray::linalg::Dot;
use ndarray::{Array, ArrayBase, ArrayRef, ArrayView, Data, DimMax, Dimension};
use std::ops::{
    Add, AddAssign, BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Deref, DerefMut, Div,
    DivAssign, Mul, MulAssign, Neg, Not, Rem, RemAssign, Shl, ShlAssign, Shr, ShrAssign, Sub, SubAssign,
};

/// The result of an operator on two arrays whose shapes are broadcast to each other.
type Broadcast<T, D, E> = Array<T, <D as DimMax<E>>::Output>;

/// Implements an operator by an operator of ndarray. The expression converts the operands to those of ndarray.
macro_rules! operator {
    ($operator:ident $method:ident, [$($parameter:tt)*] $left:ty, $right:ty, |$a:ident, $b:ident| $both:expr) => {
        impl<$($parameter)*, T, U, D, E, A: Access> $operator<$right> for $left
        where
            T: Clone + $operator<U, Output = T>,
            U: Clone,
            D: Dimension + DimMax<E>,
            E: Dimension,
        {
            type Output = Broadcast<T, D, E>;

            #[track_caller]
            fn $method(self, other: $right) -> Self::Output {
                let ($a, $b) = (self, other);
                let (left, right) = $both;
                left.$method(right)
            }
        }
    };
}

/// Implements an operator that assigns to a `MmapArray`, by the operator of ndarray for an `&ArrayRef`.
macro_rules! assigning {
    ($operator:ident $method:ident, [$($parameter:tt)*] $right:ty) => {
        impl<T, U, D: Dimension, E, A: Writable, $($parameter)*> $operator<$right> for MmapArray<T, D, A>
        where
            ArrayRef<T, D>: for<'b> $operator<&'b ArrayRef<U, E>>,
        {
            #[track_caller]
            fn $method(&mut self, other: $right) {
                let right: &ArrayRef<U, E> = other;
                self.deref_mut().$method(right);
            }
        }
    };
}

macro_rules! arithmetic {
    ($($operator:ident $method:ident, $assigning:ident $assign_method:ident;)*) => {$(
        operator!($operator $method, ['a, 'b, B: Access]
            &'a MmapArray<T, D, A>, &'b MmapArray<U, E, B>, |a, b| (&**a, &**b));
        operator!($operator $method, ['a, 'b]
            &'a MmapArray<T, D, A>, &'b ArrayRef<U, E>, |a, b| (&**a, b));
        operator!($operator $method, ['a, 'b, S: Data<Elem = U>]
            &'a MmapArray<T, D, A>, &'b ArrayBase<S, E>, |a, b| (&**a, &**b));
        operator!($operator $method, ['a, 'b]
            &'a MmapArray<T, D, A>, ArrayView<'b, U, E>, |a, b| (&**a, &*b));
        operator!($operator $method, ['a, 'b]
            &'a ArrayRef<T, D>, &'b MmapArray<U, E, A>, |a, b| (a, &**b));
        operator!($operator $method, ['a, 'b, S: Data<Elem = T>]
            &'a ArrayBase<S, D>, &'b MmapArray<U, E, A>, |a, b| (&**a, &**b));
        operator!($operator $method, ['a, 'b]
            ArrayView<'a, T, D>, &'b MmapArray<U, E, A>, |a, b| (&*a, &**b));
        // Reuses the memory of the array on the left, if its shape is the shape of the result.
        operator!($operator $method, ['b] Array<T, D>, &'b MmapArray<U, E, A>, |a, b| (a, &**b));

        /// Reuses the memory of the array on the right, if its shape is the shape of the result.
        impl<T, U, D, E, A: Access> $operator<Array<U, E>> for &MmapArray<T, D, A>
        where
            T: Clone + $operator<U, Output = U>,
            U: Clone,
            D: Dimension,
            E: Dimension + DimMax<D>,
        {
            type Output = Broadcast<U, E, D>;

            #[track_caller]
            fn $method(self, other: Array<U, E>) -> Self::Output {
                self.deref().$method(other)
            }
        }

        assigning!($assigning $assign_method, [B: Access] &MmapArray<U, E, B>);
        assigning!($assigning $assign_method, [] &ArrayRef<U, E>);
        assigning!($assigning $assign_method, [S: Data<Elem = U>] &ArrayBase<S, E>);

        impl<T, D, E, S: Data, A: Access> $assigning<&MmapArray<T, E, A>> for ArrayBase<S, D>
        where
            ArrayBase<S, D>: for<'b> $assigning<&'b ArrayView<'b, T, E>>,
            E: Dimension,
        {
            #[track_caller]
            fn $assign_method(&mut self, other: &MmapArray<T, E, A>) {
                self.$assign_method(&other.view());
            }
        }
    )*};
}

arithmetic! {
    Add add, AddAssign add_assign;
    Sub sub, SubAssign sub_assign;
    Mul mul, MulAssign mul_assign;
    Div div, DivAssign div_assign;
    Rem rem, RemAssign rem_assign;
    BitAnd bitand, BitAndAssign bitand_assign;
    BitOr bitor, BitOrAssign bitor_assign;
    BitXor bitxor, BitXorAssign bitxor_assign;
    Shl shl, ShlAssign shl_assign;
    Shr shr, ShrAssign shr_assign;
}

/// Implements the operators between arrays and numbers of the element type.
macro_rules! numbers {
    ($($number:ty)*: $operators:tt) => {$(numbers!(@ $number, $operators);)*};
    (@ $number:ty, [$($operator:ident $method:ident $assigning:ident $assign_method:ident)*]) => {$(
        impl<D: Dimension, A: Access> $operator<$number> for &MmapArray<$number, D, A> {
            type Output = Array<$number, D>;

            fn $method(self, number: $number) -> Self::Output {
                self.deref().$method(number)
            }
        }

        impl<D: Dimension, A: Access> $operator<&MmapArray<$number, D, A>> for $number {
            type Output = Array<$number, D>;

            fn $method(self, array: &MmapArray<$number, D, A>) -> Self::Output {
                self.$method(array.deref())
            }
        }

        impl<D: Dimension, A: Writable> $assigning<$number> for MmapArray<$number, D, A> {
            fn $assign_method(&mut self, number: $number) {
                self.deref_mut().$assign_method(number);
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize: [
    Add add AddAssign add_assign
    Sub sub SubAssign sub_assign
    Mul mul MulAssign mul_assign
    Div div DivAssign div_assign
    Rem rem RemAssign rem_assign
    BitAnd bitand BitAndAssign bitand_assign
    BitOr bitor BitOrAssign bitor_assign
    BitXor bitxor BitXorAssign bitxor_assign
    Shl shl ShlAssign shl_assign
    Shr shr ShrAssign shr_assign
]);

numbers!(f32 f64: [
    Add add AddAssign add_assign
    Sub sub SubAssign sub_assign
    Mul mul MulAssign mul_assign
    Div div DivAssign div_assign
    Rem rem RemAssign rem_assign
]);

#[cfg(feature = "complex")]
numbers!(num_complex::Complex<f32> num_complex::Complex<f64>: [
    Add add AddAssign add_assign
    Sub sub SubAssign sub_assign
    Mul mul MulAssign mul_assign
    Div div DivAssign div_assign
]);

/// Implements the operators of ndarray between complex elements and a real number on the right.
#[cfg(feature = "complex")]
macro_rules! real_numbers {
    ($($number:ty)*) => {$(
        real_numbers!(@ $number, Add add Sub sub Mul mul Div div);
    )*};
    (@ $number:ty, $($operator:ident $method:ident)*) => {$(
        impl<D: Dimension, A: Access> $operator<$number> for &MmapArray<num_complex::Complex<$number>, D, A> {
            type Output = Array<num_complex::Complex<$number>, D>;

            fn $method(self, number: $number) -> Self::Output {
                self.deref().$method(number)
            }
        }
    )*};
}

#[cfg(feature = "complex")]
real_numbers!(f32 f64);

impl<'a, T, D, A: Access> Neg for &'a MmapArray<T, D, A>
where
    &'a ArrayRef<T, D>: Neg,
{
    type Output = <&'a ArrayRef<T, D> as Neg>::Output;

    fn neg(self) -> Self::Output {
        -self.deref()
    }
}

impl<'a, T, D, A: Access> Not for &'a MmapArray<T, D, A>
where
    &'a ArrayRef<T, D>: Not,
{
    type Output = <&'a ArrayRef<T, D> as Not>::Output;

    fn not(self) -> Self::Output {
        !self.deref()
    }
}

/// Lets the method `dot` of arrays, views and `MmapArray`s take a `&MmapArray`.
impl<T, U, D, E, A: Access> Dot<MmapArray<U, E, A>> for ArrayRef<T, D>
where
    ArrayRef<T, D>: Dot<ArrayRef<U, E>>,
{
    type Output = <ArrayRef<T, D> as Dot<ArrayRef<U, E>>>::Output;

    fn dot(&self, other: &MmapArray<U, E, A>) -> Self::Output {
        Dot::dot(self, other.deref())
    }
}
