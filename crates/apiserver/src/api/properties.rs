//! Whatever clients send: nothing here panics, and what should not matter does not.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    convert, defaults, delete, fields,
    json::{as_object, strip_nulls},
    negotiate::{Accept, Body, DiscoveryFormat},
    patch::{self, PatchType},
    resources::{RESOURCES, Resource},
    scale,
    selector::{Fields, Labels},
    table, validate,
    write::Target,
};

/// Names that mean something somewhere, so that random objects get past the first level.
const KEYS: &[&str] = &[
    "metadata",
    "name",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "spec",
    "status",
    "template",
    "selector",
    "matchLabels",
    "matchExpressions",
    "containers",
    "initContainers",
    "ports",
    "env",
    "resources",
    "limits",
    "requests",
    "volumes",
    "conditions",
    "type",
    "podSelector",
    "ingress",
    "egress",
    "from",
    "to",
    "ipBlock",
    "cidr",
    "except",
    "strategy",
    "rollingUpdate",
    "maxSurge",
    "readinessProbe",
    "httpGet",
    "port",
    "subsets",
    "addresses",
    "endpoints",
    "rules",
    "roleRef",
    "subjects",
    "data",
    "taints",
    "podCIDRs",
    "lifecycle",
    "$patch",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "securityContext",
    "containerStatuses",
    "state",
    "terminated",
    "creationTimestamp",
    "deletionTimestamp",
    "replicas",
    "usages",
];

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("a".to_owned()),
        Just("replace".to_owned()),
        Just("2026-11-23T06:54:42Z".to_owned()),
        "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key =
            prop_oneof![4 => prop::sample::select(KEYS).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_resource() -> impl Strategy<Value = &'static Resource> {
    (0..RESOURCES.len()).prop_map(|index| &RESOURCES[index])
}

/// A random object that claims to be of a kind.
fn typed(resource: &Resource, mut object: Value) -> Value {
    let map: &mut Map<String, Value> = as_object(&mut object);
    map.insert("apiVersion".to_owned(), resource.api_version().into());
    map.insert("kind".to_owned(), resource.kind.into());
    object
}

/// Types with lists of every strategy, filled consistently: the place where merging is decided.
fn any_pod() -> impl Strategy<Value = Value> {
    let container =
        ("[a-c]", "[x-z]").prop_map(|(name, image)| json!({"name": name, "image": image}));
    let finalizers = prop::collection::btree_set("[a-c]/[x-z]", 0..3);
    (prop::collection::vec(container, 0..4), finalizers).prop_map(|(mut containers, finalizers)| {
        let mut seen = std::collections::BTreeSet::new();
        containers.retain(|c| seen.insert(c["name"].to_string()));
        let finalizers: Vec<_> = finalizers.into_iter().collect();
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": finalizers},
            "spec": {"containers": containers},
        })
    })
}

fn merged(object: &Value, with: &Value) -> Value {
    let pods = super::resources::find("", "v1", "pods").unwrap();
    let text = with.to_string();
    patch::apply(
        pods,
        PatchType::Strategic,
        Some(object),
        text.as_bytes(),
        patch::Options::default(),
    )
    .unwrap()
    .object
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_object_is_judged_and_shown(resource in any_resource(), old in any_json(), new in any_json()) {
        let (old, mut new) = (typed(resource, old), typed(resource, new));
        let now = "2026-11-23T07:00:00Z".parse().unwrap();
        let _ = fields::check(fields::Mode::Warn, &mut new, &[]);
        strip_nulls(&mut new);
        let target = Target { resource, subresource: "", namespace: "", name: "a" };
        let _ = super::meta::address(&target, &mut new);
        convert::to_stored(resource, &mut new);
        defaults::create(resource, &mut new);
        let once = new.clone();
        defaults::update(resource, &mut new);
        prop_assert_eq!(&once, &new);
        let _ = validate::create(resource, &new);
        let _ = validate::update(&target, &old, &new);
        let _ = delete::delete(resource, &new, &delete::DeleteOptions::default(), now);
        let _ = scale::put(&new, &old);
        let _ = scale::get(&new);
        let shown = convert::from_stored(resource, &new);
        let _ = table::render(resource, [&new, &*shown], "1", table::Include::Object, now);
        let _ = Labels::of(&old).matches(&new);
    }

    #[test]
    fn any_patch_is_judged(resource in any_resource(), object in any_json(), with in any_json()) {
        let object = typed(resource, object);
        let text = with.to_string();
        for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic, PatchType::Apply] {
            let options = patch::Options { force: true, field_manager: "me" };
            let _ = patch::apply(resource, kind, Some(&object), text.as_bytes(), options);
        }
    }

    #[test]
    fn any_text_is_judged(text in "\\PC{0,24}", selector in "[a-c=!<>,() in\\\\]{0,12}") {
        let pods = super::resources::find("", "v1", "pods").unwrap();
        let object = json!({"metadata": {"name": "a"}});
        for text in [&text, &selector] {
            let _ = Labels::parse(text).map(|labels| labels.matches(&object));
            let _ = Fields::parse(pods, text).map(|fields| fields.matches(&object));
            let _ = Accept::parse(Some(text), Some(text));
            let _ = DiscoveryFormat::parse(Some(text));
            for media_type in ["application/json", "application/yaml"] {
                let _ = Body::read(Some(media_type), text.as_bytes(), "Pod");
            }
        }
    }

    #[test]
    fn an_empty_patch_changes_nothing(pod in any_pod()) {
        prop_assert_eq!(merged(&pod, &json!({})), pod);
    }

    #[test]
    fn patching_twice_is_patching_once(pod in any_pod(), with in any_pod()) {
        let once = merged(&pod, &with);
        prop_assert_eq!(merged(&once, &with), once);
    }

    #[test]
    fn a_merge_keeps_every_item_and_takes_the_patchs_values(pod in any_pod(), with in any_pod()) {
        let result = merged(&pod, &with);
        let containers = |pod: &Value| pod["spec"]["containers"].as_array().unwrap().clone();
        let name = |c: &Value| c["name"].clone();
        for wanted in containers(&with) {
            prop_assert!(containers(&result).contains(&wanted));
        }
        for old in containers(&pod) {
            prop_assert_eq!(containers(&result).iter().filter(|c| name(c) == name(&old)).count(), 1);
        }
    }

    #[test]
    fn an_order_reorders_only(pod in any_pod(), mut order in prop::collection::vec("[a-d]", 0..4)) {
        let mut seen = std::collections::BTreeSet::new();
        order.retain(|name| seen.insert(name.clone()));
        let list: Vec<_> = order.iter().map(|name| json!({"name": name})).collect();
        let result = merged(&pod, &json!({"spec": {"$setElementOrder/containers": list}}));
        let names = |pod: &Value| -> Vec<String> {
            let all = pod["spec"]["containers"].as_array().unwrap().iter();
            all.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
        };
        let (mut before, mut after) = (names(&pod), names(&result));
        let named: Vec<_> = after.iter().filter(|n| order.contains(n)).cloned().collect();
        let expected: Vec<_> = order.iter().filter(|n| before.contains(n)).cloned().collect();
        prop_assert_eq!(named, expected);
        let others = |names: &[String]| -> Vec<String> { names.iter().filter(|n| !order.contains(n)).cloned().collect() };
        prop_assert_eq!(others(&before), others(&after));
        before.sort();
        after.sort();
        prop_assert_eq!(before, after);
    }
}
