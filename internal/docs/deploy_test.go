package docs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// object is a manifest of Kubernetes, with the fields that the example uses. Others are refused,
// so that a mistyped name does not pass as one that Kubernetes would ignore or refuse.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name   string
		Labels map[string]string
	}
	Type       string
	Data       map[string]string
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Replicas        int
		Selector        map[string]any
		Strategy        map[string]any
		MinReadySeconds int    `yaml:"minReadySeconds"`
		MaxUnavailable  string `yaml:"maxUnavailable"`
		Ports           []struct {
			Name       string
			Port       int
			TargetPort string `yaml:"targetPort"`
		}
		Template struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     podSpec
		}
	}
}

type podSpec struct {
	Automount       bool             `yaml:"automountServiceAccountToken"`
	Grace           int              `yaml:"terminationGracePeriodSeconds"`
	SecurityContext map[string]any   `yaml:"securityContext"`
	Spread          []map[string]any `yaml:"topologySpreadConstraints"`
	Containers      []container
	Volumes         []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
	}
}

type container struct {
	Name, Image string
	Args        []string
	EnvFrom     []struct {
		SecretRef struct{ Name string } `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Startup   probe `yaml:"startupProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	Resources       map[string]map[string]string
	SecurityContext map[string]any `yaml:"securityContext"`
	VolumeMounts    []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
	PeriodSeconds    int                         `yaml:"periodSeconds"`
	TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
	FailureThreshold int                         `yaml:"failureThreshold"`
}

const manifests = "deploy/kubernetes/roost.yaml"

// versions are the API's of each kind.
var versions = map[string]string{"ConfigMap": "v1", "Secret": "v1", "Service": "v1", "Deployment": "apps/v1", "PodDisruptionBudget": "policy/v1"}

// manifestProblems checks the manifests against each other and against the gateway; check
// is what its configuration goes through.
func manifestProblems(text string, v *vocabulary, check func(config string) []string) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	byKind := map[string][]object{}
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		d.KnownFields(true)
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return []string{err.Error()}
		}
		if versions[o.Kind] != o.APIVersion || o.Metadata.Name == "" {
			bad("%s %q: apiVersion is %q, must be %q", o.Kind, o.Metadata.Name, o.APIVersion, versions[o.Kind])
		}
		byKind[o.Kind] = append(byKind[o.Kind], o)
	}
	for kind, n := range map[string]int{"ConfigMap": 1, "Secret": 1, "Service": 2, "Deployment": 1, "PodDisruptionBudget": 1} {
		if len(byKind[kind]) != n {
			return append(problems, fmt.Sprintf("%d of kind %s, want %d", len(byKind[kind]), kind, n))
		}
	}
	pod := byKind["Deployment"][0].Spec.Template
	if len(pod.Spec.Containers) != 1 {
		return append(problems, "not one container")
	}
	c := pod.Spec.Containers[0]
	for _, o := range slices.Concat(byKind["Service"], byKind["Deployment"], byKind["PodDisruptionBudget"]) {
		selector := o.Spec.Selector
		if o.Kind != "Service" {
			selector, _ = selector["matchLabels"].(map[string]any)
		}
		for key, value := range selector {
			if pod.Metadata.Labels[key] != value {
				bad("%s %s selects %s=%v, which the pods have not", o.Kind, o.Metadata.Name, key, value)
			}
		}
		if len(selector) == 0 {
			bad("%s %s selects nothing", o.Kind, o.Metadata.Name)
		}
		for _, port := range o.Spec.Ports {
			if c.port(port.TargetPort) == 0 {
				bad("Service %s leads to the port %q, which the container has not", o.Metadata.Name, port.TargetPort)
			}
		}
	}
	problems = append(problems, c.problems(v)...)
	config := byKind["ConfigMap"][0]
	for key := range byKind["Secret"][0].StringData {
		if !v.env[key] {
			bad("the Secret has %s, which is no setting's variable", key)
		}
	}
	if len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef.Name != byKind["Secret"][0].Metadata.Name ||
		len(pod.Spec.Volumes) != 1 || pod.Spec.Volumes[0].ConfigMap.Name != config.Metadata.Name ||
		len(c.VolumeMounts) != 1 || c.VolumeMounts[0].Name != pod.Spec.Volumes[0].Name {
		bad("the container does not have the Secret and the ConfigMap")
	} else if file := c.VolumeMounts[0].MountPath + "/"; !slices.Contains(c.Args, "--config="+file+"roost.yaml") || config.Data["roost.yaml"] == "" {
		bad("--config is not the mounted roost.yaml")
	}
	text = config.Data["roost.yaml"]
	for setting, name := range map[string]string{"address": "clients", "internal-address": "internal"} {
		if want := fmt.Sprintf("\n%s: 0.0.0.0:%d\n", setting, c.port(name)); !strings.Contains("\n"+text, want) {
			bad("the port %s is not that of %s", name, setting)
		}
	}
	if pod.Spec.Grace < c.Lifecycle.PreStop.Sleep.Seconds+10 {
		bad("the grace of %d s leaves less than 10 s after preStop", pod.Spec.Grace)
	}
	for _, problem := range check(text) {
		bad("ConfigMap: %s", problem)
	}
	return problems
}

// port returns the number of a named port, 0 if there is none.
func (c *container) port(name string) int {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

func (c *container) problems(v *vocabulary) (problems []string) {
	for _, p := range v.oneCommand(append([]string{"roost"}, c.Args...)) {
		problems = append(problems, "args: "+p)
	}
	for name, one := range map[string]struct {
		probe
		path string
	}{"startup": {c.Startup, "/health"}, "liveness": {c.Liveness, "/health"}, "readiness": {c.Readiness, "/ready"}} {
		if one.HTTPGet.Path != one.path || one.HTTPGet.Port != "internal" || one.PeriodSeconds == 0 {
			problems = append(problems, fmt.Sprintf("%s: %s on port %s, want %s on internal", name, one.HTTPGet.Path, one.HTTPGet.Port, one.path))
		}
	}
	const brokerStart = 15 // seconds until a gateway without NATS gives up
	if c.Startup.PeriodSeconds*c.Startup.FailureThreshold < 2*brokerStart {
		problems = append(problems, "the startup probe does not wait for NATS")
	}
	return problems
}

func TestKubernetes(t *testing.T) {
	text, v, c := string(read(t, manifests)), words(t), newChecker(t)
	report(t, manifestProblems(text, v, c.problems))
	change := func(old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", manifests, old)
		}
		return strings.Replace(text, old, with, 1)
	}
	refuses(t, []wrong{
		{change("path: /ready", "path: /readyz"), "readiness: /readyz"},
		{change("livenessProbe:", "livenesProbe:"), "livenesProbe not found"},
		{change("--config=", "--conf="), "roost serve has no flag --conf"},
		{change("ROOST_API_KEY", "ROOST_APIKEY"), "ROOST_APIKEY, which is no setting"},
		{change("presence: true", "presense: true"), "presense"},
		{change("containerPort: 8001", "containerPort: 8002"), "the port internal is not"},
		{change("targetPort: internal", "targetPort: inside"), `the port "inside"`},
		{change("apiVersion: apps/v1", "apiVersion: v1"), "must be \"apps/v1\""},
		{change("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 12"), "less than 10 s"},
		{change("failureThreshold: 30", "failureThreshold: 3"), "does not wait for NATS"},
		{change("  selector: {app.kubernetes.io/name: roost}", "  selector: {app: roost}"), "which the pods have not"},
		{change("configMap: {name: roost}", "configMap: {name: rooster}"), "does not have the Secret and the ConfigMap"},
		{change("kind: PodDisruptionBudget", "kind: Secret"), "must be"},
	}, func(sample string) []string { return manifestProblems(sample, v, c.problems) })
}

const containerFile = "deploy/Containerfile"

var (
	instruction = regexp.MustCompile(`(?m)^(FROM|WORKDIR|COPY|RUN|ARG|USER|ENV|EXPOSE|STOPSIGNAL|HEALTHCHECK|ENTRYPOINT|CMD) (.+)$`)
	execForm    = regexp.MustCompile(`\[.*\]$`)
	sourceDir   = regexp.MustCompile(`\./cmd/[a-z-]+`)
	goImage     = regexp.MustCompile(`golang:(1\.[0-9]+)`)
)

// imageProblems checks what a container file says of the gateway.
func imageProblems(text, module string, v *vocabulary) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	has := map[string][]string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		m := instruction.FindStringSubmatch(line)
		if m == nil {
			bad("no instruction: %s", line)
			continue
		}
		has[m[1]] = append(has[m[1]], m[2])
	}
	last := func(name string) string {
		if all := has[name]; len(all) > 0 {
			return all[len(all)-1]
		}
		return ""
	}
	if last("FROM") != "scratch" || !strings.Contains(text, "CGO_ENABLED=0") {
		bad("the image is not a static binary in an empty one")
	}
	if user, _, _ := strings.Cut(last("USER"), ":"); user == "" || user == "0" || user == "root" {
		bad("it runs as root")
	}
	if m := goImage.FindStringSubmatch(text); m == nil || !strings.Contains(module, "\ngo "+m[1]+".") {
		bad("the image of Go is not of the version in go.mod")
	}
	for _, dir := range sourceDir.FindAllString(text, -1) {
		if !hasFile(dir) {
			bad("there is no %s", dir)
		}
	}
	if last("STOPSIGNAL") != "SIGTERM" {
		bad("STOPSIGNAL is not SIGTERM")
	}
	for _, name := range []string{"HEALTHCHECK", "ENTRYPOINT", "CMD"} {
		var args []string
		if err := json.Unmarshal([]byte(execForm.FindString(last(name))), &args); err != nil {
			bad("%s is not in the exec form: there is no shell", name)
			continue
		}
		if name == "CMD" {
			args = append([]string{"/roost"}, args...)
		}
		if args[0] != "/roost" || !strings.Contains(text, "/out/roost /roost\n") {
			bad("%s starts %s, the binary is /roost", name, args[0])
		}
		for _, problem := range v.oneCommand(args) {
			bad("%s: %s", name, problem)
		}
	}
	return append(problems, v.unknownVariables(containerFile, []byte(text))...)
}

func TestContainerfile(t *testing.T) {
	text, module, v := string(read(t, containerFile)), string(read(t, "go.mod")), words(t)
	report(t, imageProblems(text, module, v))
	change := func(old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", containerFile, old)
		}
		return strings.Replace(text, old, with, 1)
	}
	refuses(t, []wrong{
		{change("FROM scratch", "FROM debian"), "static binary"},
		{change("USER 65532:65532", "USER root"), "runs as root"},
		{change(`["/roost", "health"]`, `["/roost", "healthy"]`), "has no command healthy"},
		{change(`["/roost", "health"]`, `/roost health`), "exec form"},
		{change(`CMD ["serve"]`, `CMD ["serve", "--adress=x"]`), "no flag --adress"},
		{change("ROOST_ADDRESS", "ROOST_ADRESS"), "ROOST_ADRESS"},
		{change("./cmd/roost", "./cmd/rooster"), "no ./cmd/rooster"},
		{change("golang:1.26", "golang:1.2"), "version in go.mod"},
		{change("EXPOSE", "EXPOSES"), "no instruction"},
	}, func(sample string) []string { return imageProblems(sample, module, v) })
}

const (
	unit    = "deploy/roost.service"
	unitTLS = "deploy/roost-tls.conf" // an addition to it
)

// hardened is what the unit must say, whatever else it does.
var hardened = []string{"Type=notify", "NotifyAccess=all", "ExecReload=/bin/kill -HUP $MAINPID", "DynamicUser=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes",
	"PrivateTmp=yes", "PrivateDevices=yes", "StateDirectory=roost", "LimitNOFILE=1048576", "Restart=on-failure", "WantedBy=multi-user.target"}

var unitLine = regexp.MustCompile(`^([A-Z][A-Za-z]+=.*|\[(Unit|Service|Install)\]|#.*|)$`)

func unitProblems(text string, v *vocabulary) (problems []string) {
	lines := strings.Split(text, "\n")
	for _, line := range lines {
		if !unitLine.MatchString(line) {
			problems = append(problems, "no line of a unit: "+line)
		}
		if _, command, ok := strings.Cut(line, "ExecStart"); ok && !strings.HasPrefix(line, "#") {
			_, command, _ = strings.Cut(command, "=")
			problems = append(problems, v.oneCommand(strings.Fields(command))...)
		}
	}
	for _, want := range hardened {
		if !slices.Contains(lines, want) {
			problems = append(problems, "it does not say "+want)
		}
	}
	return append(problems, v.unknownVariables(unit, []byte(text))...)
}

// TestUnit checks the unit by itself, and by systemd where that is.
func TestUnit(t *testing.T) {
	text, v := string(read(t, unit)), words(t)
	report(t, unitProblems(text, v))
	refuses(t, []wrong{
		{strings.Replace(text, "roost serve", "roost sirve", 1), "no command sirve"},
		{strings.Replace(text, "DynamicUser=yes\n", "", 1), "does not say DynamicUser=yes"},
		{strings.Replace(text, "[Install]", "Install", 1), "no line of a unit"},
		{strings.Replace(text, "ROOST_API_KEY", "ROOST_KEY", 1), "ROOST_KEY"},
	}, func(sample string) []string { return unitProblems(sample, v) })

	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return
	}
	// The binary is where the unit says on no machine of ours.
	text = strings.ReplaceAll(text, "/usr/local/bin/roost", binary(t, roostBin))
	addition := string(read(t, unitTLS))
	for name, with := range map[string]string{"alone": "", "with TLS": addition} {
		if said := verified(t, text, with); said != "" {
			t.Errorf("%s: %s", name, said)
		}
	}
	if verified(t, text, strings.Replace(addition, "Ambient", "Ambiant", 1)) == "" {
		t.Error("systemd-analyze verify accepts AmbiantCapabilities")
	}
}

// verified returns what systemd has against a unit with an addition, if there is one.
func verified(t *testing.T, text, addition string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roost.service")
	write(t, file, text)
	if addition != "" {
		if err := os.Mkdir(file+".d", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(file+".d", "tls.conf"), addition)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err == nil && !strings.Contains(string(out), "roost.service") {
		return ""
	}
	return fmt.Sprintf("systemd-analyze verify: %v\n%s", err, out)
}
