{{- define "visage.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "visage.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "visage.labels" -}}
{{ include "visage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "visage.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Not empty when the store is a database, so that pods share it. */}}
{{- define "visage.shared" -}}
{{- if .Values.store.existingSecret -}}true{{- end -}}
{{- end -}}

{{/* The headless service by which replicas reach each other. */}}
{{- define "visage.peers" -}}
{{ include "visage.fullname" . }}-peers
{{- end -}}

{{/* The seconds after which a pod that has not started is killed: startSeconds and settings.root-key-wait, such as 90s
or 1h30m; default 5m, as that of the service. */}}
{{- define "visage.startSeconds" -}}
{{- $seconds := float64 .Values.startSeconds -}}
{{- $unit := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.0 "µs" 0.0 "ns" 0.0 -}}
{{- $wait := toString (default "5m" (get .Values.settings "root-key-wait")) -}}
{{- range regexFindAll "[0-9.]+(ms|us|µs|ns|h|m|s)" $wait -1 -}}
{{- $n := regexFind "[0-9.]+" . -}}
{{- $seconds = addf $seconds (mulf (float64 $n) (float64 (get $unit (trimPrefix $n .)))) -}}
{{- end -}}
{{- int64 (ceil $seconds) -}}
{{- end -}}

{{/* What the values cannot mean together. */}}
{{- define "visage.check" -}}
{{- $keys := or .Values.epochKeys.existingSecret .Values.epochKeys.existingClaim -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.store.existingSecret) -}}
{{- fail "replicas is above 1, and the store lies on a volume, which one process has open: set store.existingSecret to a Secret with the URL of a PostgreSQL database, or replicas to 1" -}}
{{- end -}}
{{- if and .Values.store.existingSecret (not $keys) -}}
{{- fail "the store is a database, and its epoch keys would lie on a volume that one pod has: set epochKeys.existingSecret (Vault, or a second database) or epochKeys.existingClaim (a volume that all pods mount)" -}}
{{- end -}}
{{- if and .Values.epochKeys.existingSecret .Values.epochKeys.existingClaim -}}
{{- fail "epoch keys lie in one place: set epochKeys.existingSecret or epochKeys.existingClaim, not both" -}}
{{- end -}}
{{- if and .Values.epochKeys.tokenAudience (not .Values.epochKeys.existingSecret) -}}
{{- fail "epochKeys.tokenAudience is for a login: set epochKeys.existingSecret to a Secret with the URL" -}}
{{- end -}}
{{- if and .Values.store.existingSecret .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim is a volume for the data, which lies in a database: leave it out, or store.existingSecret" -}}
{{- end -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (add (int .Values.stopDelaySeconds) (int .Values.drainSeconds) 20) -}}
{{- fail "terminationGracePeriodSeconds must exceed stopDelaySeconds and drainSeconds together by more than 20 s, which closing the store may take: raise it, or lower one of the two" -}}
{{- end -}}
{{- end -}}
