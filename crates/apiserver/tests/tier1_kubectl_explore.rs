mod common;
mod kubectl;
use kubectl::with_each;

#[test]
fn explore() {
    with_each(|k| {
        let show = |line: &str, input: &str| {
            let said = k.pipe(line, input);
            println!("$ kubectl {line}\n{}{}", said.out, said.err);
        };
        let cm = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n";
        let cm2 = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '2'}\n";
        show("apply --server-side -f -", cm);
        show("apply --server-side -f -", cm);
        show("apply --server-side -f -", cm2);
        show("apply --server-side --force-conflicts -f -", cm2);
        show("diff -f -", cm);
        show("apply --dry-run=server -f -", cm);
        show(
            "create --dry-run=server -f -",
            &cm.replace("name: c", "name: d"),
        );
        show("replace -f -", cm);
        show("replace --force -f -", cm);
        show("run p --image=x --restart=Never", "");
        show("get pods --show-labels", "");
        show("get pod p -o yaml", "");
        show("create deployment d --image=x", "");
        show("rollout status deployment d --timeout=1s", "");
        show("rollout history deployment d", "");
        show("rollout restart deployment d", "");
        show("get deploy d -o yaml", "");
        show("describe deploy d", "");
        show("explain pods", "");
        show("get events", "");
        show("get csr", "");
        show("get all", "");
        show("get roles,rolebindings -n kube-system", "");
        show("get clusterroles", "");
        show("get pc,leases,csinodes,runtimeclass -A", "");
        show("get endpointslices.v1beta1.discovery.k8s.io -o yaml", "");
        show("get ep,svc,endpointslices", "");
        show("get events.v1.events.k8s.io", "");
        show("get pods --field-selector=spec.foo=bar", "");
        show("get pods -l 'a in ('", "");
        show("get nodes --sort-by=.metadata.name", "");
        show("create quota q --hard=pods=1", "");
        show("create job j --image=x", "");
        show("get ns --show-labels", "");
        show(
            "auth reconcile -f -",
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n",
        );
        show("delete pod p --grace-period=0 --force", "");
        show("delete cm --all", "");
        show("get cm c -o yaml", "");
        show(
            "create -f -",
            "apiVersion: v1\nkind: Pod\nmetadata: {generateName: g-}\nspec: {containers: [{name: c, image: i, ports: [{containerPort: x}]}]}\n",
        );
        show(
            "create -f -",
            "apiVersion: v1\nkind: Pod\nmetadata: {generateName: g-}\nspec: {containers: [{name: c, image: i, bad: 1}]}\n",
        );
        show(
            "create -f -",
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}\n",
        );
        show("version", "");
    });
}
