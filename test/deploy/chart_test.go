package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

var chartDir = filepath.Join("..", "..", "packaging", "helm", "visage")

// kinds are the types that documents of the chart are decoded into, strictly.
var kinds = map[string]func() any{
	"v1/ConfigMap":                       func() any { return new(core.ConfigMap) },
	"v1/Service":                         func() any { return new(core.Service) },
	"v1/ServiceAccount":                  func() any { return new(core.ServiceAccount) },
	"apps/v1/StatefulSet":                func() any { return new(apps.StatefulSet) },
	"networking.k8s.io/v1/Ingress":       func() any { return new(networking.Ingress) },
	"policy/v1/PodDisruptionBudget":      func() any { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1/NetworkPolicy": func() any { return new(networking.NetworkPolicy) },
}

// headless is the key, among documents by kind, of the service by which replicas reach each other.
const headless = "v1/Service headless"

// variants are sets of values that together use every part of the chart.
var variants = map[string]string{
	"defaults": "",
	"everything": `
image: {repository: registry.example.org/visage, digest: "sha256:` + strings.Repeat("0123456789abcdef", 4) + `"}
imagePullSecrets: [{name: pull}]
settings: {domain: faces.example.org, public-url: "https://faces.example.org", names: [a.example.org], rate: 20}
rootKey: {further: ["hashivault://vault.example.org/transit/keys/root"]}
tls: {existingSecret: visage-tls}
secretEnv: [{name: VISAGE_SECRET_SECOND, secret: second, key: passphrase}]
persistence: {size: 100Gi, storageClass: fast, annotations: {a: b}}
service: {type: LoadBalancer, port: 8443, annotations: {a: b}}
ingress: {enabled: true, className: nginx, hosts: [faces.example.org, "*.faces.example.org"], tlsSecret: visage-tls}
networkPolicy: {from: [{podSelector: {matchLabels: {app: front}}}], to: [{ports: [{port: 8200}]}]}
podAnnotations: {a: b}
podLabels: {a: b}
nodeSelector: {a: b}
tolerations: [{key: faces, operator: Exists}]
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 1, preference: {matchExpressions: [{key: a, operator: Exists}]}}
priorityClassName: high
`,
	"little": `
rootKey: {existingSecret: "", further: ["hashivault://vault.example.org/transit/keys/root"]}
persistence: {existingClaim: mine}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
fullnameOverride: faces
`,
	"replicas with Vault": `
replicas: 3
store: {existingSecret: visage-store, to: [{podSelector: {matchLabels: {app: postgres}}}]}
epochKeys: {existingSecret: visage-epoch-keys, to: [{ipBlock: {cidr: 10.0.0.8/32}}]}
tls: {existingSecret: visage-tls}
settings: {public-url: "https://faces.example.org", partition-copies: 3, gallery-memory: 4GiB}
service: {sessionAffinity: ClientIP}
networkPolicy: {to: []}
`,
	"replicas with a login by the pod's account": `
replicas: 2
store: {existingSecret: visage-store, urlKey: address, passwordKey: "", port: 6432}
epochKeys: {existingSecret: visage-epoch-keys, urlKey: address, tokenAudience: vault}
rootKey: {existingSecret: "", further: ["hashivault://vault.example.org/transit/keys/root"]}
peers: {port: 9444}
topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule}
`,
	"replicas with a common volume": `
replicas: 2
store: {existingSecret: visage-store}
epochKeys: {existingClaim: visage-keys}
stopDelaySeconds: 20
drainSeconds: 60
terminationGracePeriodSeconds: 120
`,
	"one replica over a database": `
store: {existingSecret: visage-store}
epochKeys: {existingSecret: visage-epoch-keys}
`,
	"certificates in place of secrets": `
replicas: 2
store: {existingSecret: visage-store, passwordKey: ""}
epochKeys: {existingSecret: visage-epoch-keys, secretKey: "", port: 5432}
`,
	"a volume, and epoch keys in Vault": `
epochKeys: {existingSecret: visage-epoch-keys}
`,
}

// values reads values in YAML.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render returns the chart's documents by kind.
func render(t *testing.T, text string) (map[string]any, error) {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := chartutil.ToRenderValues(c, values(t, text),
		chartutil.ReleaseOptions{Name: "visage", Namespace: "faces", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, v)
	if err != nil {
		return nil, err
	}
	found := map[string]any{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") || strings.TrimSpace(text) == "" {
			continue
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			return nil, fmt.Errorf("%s: %w:\n%s", name, err, text)
		}
		kind := head.APIVersion + "/" + head.Kind
		make, known := kinds[kind]
		if !known {
			return nil, fmt.Errorf("%s: no type of kind %s", name, kind)
		}
		object := make()
		if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
			return nil, fmt.Errorf("%s: %w:\n%s", name, err, text)
		}
		if s, ok := object.(*core.Service); ok && s.Spec.ClusterIP == core.ClusterIPNone {
			kind = headless
		}
		if found[kind] != nil {
			return nil, fmt.Errorf("%s: a second document of kind %s", name, kind)
		}
		found[kind] = object
	}
	return found, nil
}

// TestChart decodes every document of the chart as the API does that refuses unknown fields.
func TestChart(t *testing.T) {
	used := map[string]bool{}
	for name, text := range variants {
		t.Run(name, func(t *testing.T) {
			found, err := render(t, text)
			if err != nil {
				t.Fatal(err)
			}
			for kind := range found {
				used[kind] = true
			}
			checkPod(t, found["apps/v1/StatefulSet"].(*apps.StatefulSet), found)
		})
	}
	for _, kind := range append(slices.Collect(maps.Keys(kinds)), headless) {
		if !used[kind] {
			t.Errorf("no variant of the values makes a %s", kind)
		}
	}
}

// checkPod wants a pod that the restricted standard of Kubernetes admits, that mounts no token, and whose references
// lead somewhere.
func checkPod(t *testing.T, set *apps.StatefulSet, found map[string]any) {
	t.Helper()
	pod := set.Spec.Template.Spec
	is := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("the pod: %s", what)
		}
	}
	is("mounts a token", !*pod.AutomountServiceAccountToken)
	is("has an account with a token", !*found["v1/ServiceAccount"].(*core.ServiceAccount).AutomountServiceAccountToken)
	sc := pod.SecurityContext
	is("may run as root", *sc.RunAsNonRoot && *sc.RunAsUser == 65532 && *sc.FSGroup == 65532)
	is("has no seccomp", sc.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault)
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers, want 1", len(pod.Containers))
	}
	c := pod.Containers[0]
	is("escalates", !*c.SecurityContext.AllowPrivilegeEscalation)
	is("writes to its image", *c.SecurityContext.ReadOnlyRootFilesystem)
	is("has capabilities", slices.Equal(c.SecurityContext.Capabilities.Drop, []core.Capability{"ALL"}) &&
		len(c.SecurityContext.Capabilities.Add) == 0)
	for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		is("lacks a probe over HTTPS", probe != nil && probe.HTTPGet.Scheme == core.URISchemeHTTPS)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, v := range set.Spec.VolumeClaimTemplates {
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		is("mounts a volume that is not there: "+m.Name, volumes[m.Name])
	}
	for key, value := range set.Spec.Selector.MatchLabels {
		is("is not selected", set.Spec.Template.Labels[key] == value)
	}
	service := found["v1/Service"].(*core.Service)
	is("is not behind its service", maps.Equal(service.Spec.Selector, set.Spec.Selector.MatchLabels))
	if peers, several := found[headless].(*core.Service); several {
		is("is not behind the service of peers", maps.Equal(peers.Spec.Selector, set.Spec.Selector.MatchLabels))
		is("has no name of its own", set.Spec.ServiceName == peers.Name && peers.Spec.PublishNotReadyAddresses)
	} else {
		is("is not one", *set.Spec.Replicas == 1)
		is("and service have different names", set.Spec.ServiceName == service.Name)
	}

	// What the service reads: one level of settings, and the root key by its variable or in a key store.
	settings := read(t, found)
	keys, _ := settings["root-key"].([]any)
	is("has no root key", len(keys) > 0)
	for _, k := range keys {
		name, variable := strings.CutPrefix(k.(string), "env:")
		is("has no variable "+name, !variable || slices.ContainsFunc(c.Env, func(v core.EnvVar) bool {
			return v.Name == name && v.ValueFrom.SecretKeyRef != nil
		}))
	}
	is("is killed before it has ended", time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second >
		lasts(t, settings["stop-delay"])+lasts(t, settings["drain-timeout"])+20*time.Second)
	for key, value := range settings { // what the service reads, the pod mounts
		file, named := value.(string)
		file = strings.TrimPrefix(file, "file://")
		is("reads "+key+" from a place that is not mounted", !named || !strings.HasPrefix(file, "/") ||
			slices.ContainsFunc(c.VolumeMounts, func(m core.VolumeMount) bool {
				return strings.HasPrefix(file, m.MountPath+"/")
			}))
	}
	// The folder is below the volume's: that can be changed by a group, which the service refuses.
	is("keeps its data elsewhere", settings["dir"] == "/var/lib/visage/instance")
}

// lasts reads a duration of the settings; none is zero.
func lasts(t *testing.T, setting any) time.Duration {
	t.Helper()
	if setting == nil {
		return 0
	}
	d, err := time.ParseDuration(setting.(string))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// read reads the settings that a variant of the chart writes.
func read(t *testing.T, found map[string]any) map[string]any {
	t.Helper()
	settings := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(found["v1/ConfigMap"].(*core.ConfigMap).Data["visage.yaml"]),
		&settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// TestReplicas checks what several pods over one database need.
func TestReplicas(t *testing.T) {
	found, err := render(t, variants["replicas with Vault"])
	if err != nil {
		t.Fatal(err)
	}
	set := found["apps/v1/StatefulSet"].(*apps.StatefulSet)
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	settings := read(t, found)
	for key, want := range map[string]any{
		"shared": true, "peer-listen": "0.0.0.0:8444", "store-password-file": "/etc/visage/store/password",
		"epoch-keys-secret-file": "/etc/visage/epoch-keys/secret", "stop-delay": "10s", "drain-timeout": "20s",
	} {
		if settings[key] != want {
			t.Errorf("the setting %s is %v, want %v", key, settings[key], want)
		}
	}
	// Addresses with secrets are in Secrets: not in the settings, and not in arguments.
	for _, key := range []string{"store", "epoch-keys"} {
		if settings[key] != nil {
			t.Errorf("the setting %s is in a ConfigMap", key)
		}
	}
	if want := []string{"serve", "--config", "/etc/visage/settings/visage.yaml"}; !slices.Equal(c.Args, want) {
		t.Errorf("arguments %q, want %q", c.Args, want)
	}
	env := map[string]core.EnvVar{}
	order := []string{}
	for _, v := range c.Env {
		env[v.Name] = v
		order = append(order, v.Name)
	}
	for name, secret := range map[string]string{
		"VISAGE_STORE": "visage-store", "VISAGE_EPOCH_KEYS": "visage-epoch-keys", "VISAGE_SECRET_ROOT": "visage-root",
	} {
		if from := env[name].ValueFrom; from == nil || from.SecretKeyRef == nil || from.SecretKeyRef.Name != secret {
			t.Errorf("%s comes from %+v, want the Secret %s", name, env[name], secret)
		}
	}
	if got, want := env["VISAGE_PEER_ADDRESS"].Value, "$(POD_NAME).visage-peers.faces.svc:8444"; got != want {
		t.Errorf("others reach it at %q, want %q", got, want)
	}
	if slices.Index(order, "POD_NAME") > slices.Index(order, "VISAGE_PEER_ADDRESS") {
		t.Error("POD_NAME is defined after its use, so that Kubernetes leaves it as it is")
	}
	if len(set.Spec.VolumeClaimTemplates) > 0 {
		t.Errorf("pods have volumes of their own: %+v", set.Spec.VolumeClaimTemplates)
	}
	if *set.Spec.Replicas != 3 || set.Spec.MinReadySeconds < 5 ||
		set.Spec.PodManagementPolicy != apps.ParallelPodManagement {
		t.Errorf("%d replicas, one after the other after %d s, %s", *set.Spec.Replicas, set.Spec.MinReadySeconds,
			set.Spec.PodManagementPolicy)
	}
	if budget := found["policy/v1/PodDisruptionBudget"].(*policy.PodDisruptionBudget); budget.Spec.MaxUnavailable.
		IntValue() != 1 {
		t.Errorf("an eviction may take %v pods", budget.Spec.MaxUnavailable)
	}
	if len(pod.TopologySpreadConstraints) != 2 {
		t.Errorf("pods are spread by %+v, want over nodes and zones", pod.TopologySpreadConstraints)
	}
	for _, spread := range pod.TopologySpreadConstraints {
		if spread.WhenUnsatisfiable != core.ScheduleAnyway ||
			!maps.Equal(spread.LabelSelector.MatchLabels, set.Spec.Selector.MatchLabels) {
			t.Errorf("pods are spread by %+v", spread)
		}
	}
	if found["v1/Service"].(*core.Service).Spec.SessionAffinity != core.ServiceAffinityClientIP {
		t.Error("clients do not stay at one replica")
	}
}

// TestNetworkPolicy wants replicas to reach each other, the database and Vault, and nothing else but names.
func TestNetworkPolicy(t *testing.T) {
	found, err := render(t, variants["replicas with Vault"])
	if err != nil {
		t.Fatal(err)
	}
	p := found["networking.k8s.io/v1/NetworkPolicy"].(*networking.NetworkPolicy)
	peers := p.Spec.PodSelector.MatchLabels
	var in, out []string
	describe := func(ports []networking.NetworkPolicyPort, with []networking.NetworkPolicyPeer) string {
		var said []string
		for _, port := range ports {
			said = append(said, port.Port.String())
		}
		for _, peer := range with {
			switch {
			case peer.IPBlock != nil:
				said = append(said, peer.IPBlock.CIDR)
			case maps.Equal(peer.PodSelector.MatchLabels, peers):
				said = append(said, "replicas")
			default:
				said = append(said, fmt.Sprint(peer.PodSelector.MatchLabels))
			}
		}
		return strings.Join(said, " ")
	}
	for _, rule := range p.Spec.Ingress {
		in = append(in, describe(rule.Ports, rule.From))
	}
	for _, rule := range p.Spec.Egress {
		out = append(out, describe(rule.Ports, rule.To))
	}
	if want := []string{"https", "peers replicas"}; !slices.Equal(in, want) {
		t.Errorf("it admits %q, want %q", in, want)
	}
	if want := []string{"53 53", "8444 replicas", "5432 map[app:postgres]", "8200 10.0.0.8/32"}; !slices.Equal(out,
		want) {
		t.Errorf("it lets out %q, want %q", out, want)
	}
	if want := []networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress}; !slices.Equal(
		p.Spec.PolicyTypes, want) {
		t.Errorf("it restricts %q, want both directions", p.Spec.PolicyTypes)
	}
}

// TestContradictions wants a sentence about values that do not go together.
func TestContradictions(t *testing.T) {
	const database = "store: {existingSecret: s}\n"
	for text, want := range map[string]string{
		"replicas: 2": "set store.existingSecret",
		"replicas: 2\nepochKeys: {existingSecret: k}": "set store.existingSecret",
		database:                 "set epochKeys.existingSecret",
		database + "replicas: 3": "set epochKeys.existingSecret",
		database + "epochKeys: {existingSecret: k, existingClaim: c}":                "not both",
		database + "epochKeys: {existingClaim: c, tokenAudience: a}":                 "is for a login",
		database + "epochKeys: {existingSecret: k}\npersistence: {existingClaim: c}": "is a volume for the data",
		"drainSeconds: 50": "terminationGracePeriodSeconds must exceed",
		"drainSeconds: 30": "terminationGracePeriodSeconds must exceed", // 60 s is no more than 10 s, 30 s and 20 s
	} {
		if _, err := render(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

// TestSettingsOfTheChartExist compares the settings in variants with those of the program's table.
func TestSettingsOfTheChartExist(t *testing.T) {
	table, err := os.ReadFile(filepath.Join("..", "..", "cmd", "visage", "internal", "settings", "table.go"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range variants {
		found, err := render(t, text)
		if err != nil {
			t.Fatal(err)
		}
		for key := range read(t, found) {
			if !strings.Contains(string(table), `"`+key+`"`) {
				t.Errorf("%s: the program has no setting %s", name, key)
			}
		}
	}
}

// TestLint runs Helm's own rules. A chart without an icon is only told so.
func TestLint(t *testing.T) {
	for name, text := range variants {
		for _, m := range lint.All(chartDir, values(t, text), "faces", true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// TestWrongValues wants the schema to refuse what the chart could not mean.
func TestWrongValues(t *testing.T) {
	for _, text := range []string{
		"replicaCount: 3",
		"settings: {dir: /data}",
		"settings: {root-key: [file:/k]}",
		"settings: {store: 'postgres://visage@db/visage'}",
		"settings: {epoch-keys: 'file:///keys'}",
		"settings: {shared: true}",
		"replicas: -1",
		"peers: {port: 8443}",
		"stopDelaySeconds: 0",
		"settings: {domain: {a: b}}",
		`rootKey: {existingSecret: ""}`,
		"secretEnv: [{name: PATH, secret: s, key: k}]",
		"image: {digest: latest}",
		"persistence: {accessMode: ReadWriteMany}",
		"ingress: {enabled: true}",
		"service: {port: 0}",
	} {
		if _, err := render(t, text); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s: %v, want a refusal by the schema", text, err)
		}
	}
}

// TestStartsAreNotCutShort: a pod is killed no earlier than its settings let a start wait, and the time that a start
// itself may take.
func TestStartsAreNotCutShort(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"":                                 15 * time.Minute,
		`settings: {root-key-wait: 1h30m}`: 100 * time.Minute,
		`settings: {root-key-wait: 90s}`:   690 * time.Second,
		`settings: {root-key-wait: 1.5h}`:  100 * time.Minute,
		`settings: {root-key-wait: 500ms}`: 605 * time.Second,
		`startSeconds: 7200`:               125 * time.Minute,
	} {
		documents, err := render(t, text)
		if err != nil {
			t.Fatal(err)
		}
		probe := documents["apps/v1/StatefulSet"].(*apps.StatefulSet).Spec.Template.Spec.Containers[0].StartupProbe
		got := time.Duration(probe.PeriodSeconds*probe.FailureThreshold) * time.Second
		if got != want {
			t.Errorf("%s: a start is killed after %v, want %v", text, got, want)
		}
	}
}
