package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	for kind := range kinds {
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
	is("is not one", *set.Spec.Replicas == 1)
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
	is("and service have different names", set.Spec.ServiceName == service.Name)

	// What the service reads: one level of settings, and the root key by its variable or in a key store.
	settings := map[string]any{}
	text := found["v1/ConfigMap"].(*core.ConfigMap).Data["visage.yaml"]
	if err := yaml.UnmarshalStrict([]byte(text), &settings); err != nil {
		t.Fatalf("settings: %v:\n%s", err, text)
	}
	keys, _ := settings["root-key"].([]any)
	is("has no root key", len(keys) > 0)
	for _, k := range keys {
		name, variable := strings.CutPrefix(k.(string), "env:")
		is("has no variable "+name, !variable || slices.ContainsFunc(c.Env, func(v core.EnvVar) bool {
			return v.Name == name && v.ValueFrom.SecretKeyRef != nil
		}))
	}
	// The folder is below the volume's: that can be changed by a group, which the service refuses.
	is("keeps its data elsewhere", settings["dir"] == "/var/lib/visage/instance")
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
		settings := map[string]any{}
		written := found["v1/ConfigMap"].(*core.ConfigMap).Data["visage.yaml"]
		if err := yaml.Unmarshal([]byte(written), &settings); err != nil {
			t.Fatal(err)
		}
		for key := range settings {
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
