//! How the keys of a node are declared: once each, with all that is known of them.
//!
//! Promises: what is declared can be set, shown and asked for by its key; nothing else can.
//! Never here: which keys there are.

/// When another value of a key takes effect: Kafka's update mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateMode {
    /// With the next start of the node.
    Restart,
    /// While the node runs: for one broker, or for all that have no setting of their own.
    Dynamic,
    /// While nodes run, for all of them together: the controller goes by it.
    ClusterWide,
}

/// One key of a node, as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKey {
    pub name: &'static str,
    /// As it would be written.
    pub default: String,
    pub documentation: &'static str,
    pub update_mode: UpdateMode,
}

/// Declares the fields, their keys, defaults, update modes and documentation once.
macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $key:literal, $mode:ident; )+) => {
        /// Everything that can be set for a node.
        #[derive(Clone, Debug)]
        pub struct NodeConfig {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for NodeConfig {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl NodeConfig {
            /// Every key, with its default and what it means.
            pub fn keys() -> Vec<NodeKey> {
                let defaults = Self::default();
                vec![$( NodeKey {
                    name: $key,
                    default: defaults.$field.show(),
                    documentation: concat!($($doc),+).trim(),
                    update_mode: UpdateMode::$mode,
                }, )+]
            }

            /// The value in force, as it would be written; `None` if there is no such key.
            pub fn get(&self, key: &str) -> Option<String> {
                match key {
                    $( $key => Some(self.$field.show()), )+
                    _ => None,
                }
            }

            /// When another value of this key takes effect; `None` if there is no such key.
            pub fn update_mode(key: &str) -> Option<UpdateMode> {
                match key {
                    $( $key => Some(UpdateMode::$mode), )+
                    _ => None,
                }
            }

            /// Sets one key. What makes no sense beside the others is told by [`NodeConfig::load`] only.
            ///
            /// # Errors
            /// There is no such key, or it has no such value: why. Nothing is changed.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
                match key {
                    $( $key => self.$field = Setting::parse(value)?, )+
                    _ => return Err(unknown_key(key)),
                }
                Ok(())
            }
        }
    };
}

pub(super) use settings;
