//! How a structure is declared once and known to both languages.

/// A field as the C header needs it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in both languages.
    pub name: &'static str,
    /// C type of one element.
    pub c_type: &'static str,
    /// Number of elements of an array; 0 for a scalar.
    pub count: usize,
    /// Distance from the structure's start, in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// Lines of documentation.
    pub doc: &'static [&'static str],
}

/// A structure as the C header needs it.
#[derive(Clone, Copy, Debug)]
pub struct Struct {
    /// Tag in C.
    pub c_name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Fields in order.
    pub fields: &'static [Field],
    /// Lines of documentation.
    pub doc: &'static [&'static str],
}

/// A type whose bytes the kernel and we share.
pub trait Layout: Copy + Default {
    /// Its description.
    const STRUCT: Struct;
}

/// A type that may be a field.
pub(crate) trait CType {
    const NAME: &'static str;
    const COUNT: usize;
}

macro_rules! scalars {
    ($($rust:ty = $c:literal),+) => { $(
        impl CType for $rust { const NAME: &'static str = $c; const COUNT: usize = 0; }
        impl<const N: usize> CType for [$rust; N] { const NAME: &'static str = $c; const COUNT: usize = N; }
    )+ };
}
scalars!(u8 = "__u8", u16 = "__u16", u32 = "__u32", u64 = "__u64");

impl CType for crate::Address {
    const NAME: &'static str = "struct malha_address";
    const COUNT: usize = 0;
}

/// Declare structures: the Rust types, their descriptions, and `STRUCTS`, the list of all descriptions.
macro_rules! layout {
    ($( $(#[doc = $doc:literal])+ struct $name:ident = $c:literal {
        $( $(#[doc = $field_doc:literal])+ $field:ident: $type:ty, )+
    } )+) => {
        $(
            $(#[doc = $doc])+
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $name { $( $(#[doc = $field_doc])+ pub $field: $type, )+ }

            impl $crate::Layout for $name {
                const STRUCT: $crate::Struct = $crate::Struct {
                    c_name: $c,
                    size: size_of::<$name>(),
                    fields: &[ $( $crate::Field {
                        name: stringify!($field),
                        c_type: <$type as $crate::layout::CType>::NAME,
                        count: <$type as $crate::layout::CType>::COUNT,
                        offset: core::mem::offset_of!($name, $field),
                        size: size_of::<$type>(),
                        doc: &[ $($field_doc),+ ],
                    } ),+ ],
                    doc: &[ $($doc),+ ],
                };
            }
        )+
        /// Every structure, in the order of the header.
        pub const STRUCTS: &[$crate::Struct] = &[ $( <$name as $crate::Layout>::STRUCT ),+ ];
    };
}
pub(crate) use layout;
