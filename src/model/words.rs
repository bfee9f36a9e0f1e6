//! A macro for enums that have one text for each variant.

/// Implements the text form of an enum once: `as_str`, `Display`, `FromStr`, serde.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// All of them, in their order.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// As the API, the policy and the database spell it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::Invalid;

            fn from_str(text: &str) -> Result<$name, $crate::model::Invalid> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err($crate::model::Invalid(format!("one of {}", [$($text),+].join(", ")))),
                }
            }
        }
    };
}

pub(super) use words;
