{{- define "runner-broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "runner-broker.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "runner-broker.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "runner-broker.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What tells this release's pods from all others; never changes, as selectors cannot. */}}
{{- define "runner-broker.instance" -}}
app.kubernetes.io/name: {{ include "runner-broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The pods that serve; those that migrate are of another component, so that no Service sends them anything. */}}
{{- define "runner-broker.selector" -}}
{{ include "runner-broker.instance" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "runner-broker.migrateSelector" -}}
{{ include "runner-broker.instance" . }}
app.kubernetes.io/component: migrate
{{- end }}

{{/* Of everything but pods, which would restart with each version of the chart. */}}
{{- define "runner-broker.labels" -}}
{{ include "runner-broker.instance" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "runner-broker.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "runner-broker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "runner-broker.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "runner-broker.scheme" -}}
{{ ternary "https" "http" .Values.tls.enabled }}
{{- end }}

{{- define "runner-broker.servicePort" -}}
{{ .Values.service.port | default (ternary 443 80 .Values.tls.enabled) }}
{{- end }}

{{- define "runner-broker.policyConfigMap" -}}
{{- if .Values.policy.inline -}}
{{ include "runner-broker.fullname" . }}-policy
{{- else -}}
{{ .Values.policy.existingConfigMap }}
{{- end }}
{{- end }}

{{- define "runner-broker.publicUrl" -}}
{{- if .Values.config.PUBLIC_URL -}}
{{ .Values.config.PUBLIC_URL }}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}
https://{{ .Values.ingress.host }}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
https://{{ first .Values.httpRoute.hostnames }}
{{- else -}}
{{ include "runner-broker.scheme" . }}://{{ include "runner-broker.fullname" . }}.{{ .Release.Namespace }}.svc:{{ include "runner-broker.servicePort" . }}
{{- end }}
{{- end }}

{{/* A value as the environment has it. Numbers of a values file are floats: 12345678 would become 1.2345678e+07. */}}
{{- define "runner-broker.text" -}}
{{- if kindIs "float64" . -}}{{ printf "%.0f" . }}
{{- else if kindIs "slice" . -}}{{ toJson . }}
{{- else -}}{{ toString . }}
{{- end }}
{{- end }}

{{/* All that a stop may take: three times GITHUB_TIMEOUT_SECONDS and 5 s, after the pause before it. */}}
{{- define "runner-broker.longestStop" -}}
{{- $timeout := .Values.config.GITHUB_TIMEOUT_SECONDS | default 10 | int }}
{{- add (mul 3 $timeout) 5 (include "runner-broker.preStop" . | int) }}
{{- end }}

{{/* The sleep of the kubelet's own, as the image has no shell; from 1.30 on. */}}
{{- define "runner-broker.preStop" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}{{ .Values.preStopSleepSeconds | int }}{{ else }}0{{ end }}
{{- end }}

{{- define "runner-broker.gracePeriod" -}}
{{- $needed := include "runner-broker.longestStop" . | int }}
{{- $given := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $given }}{{ add $needed 5 }}
{{- else if lt (int $given) $needed }}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short: a stop may take %d s (three times GITHUB_TIMEOUT_SECONDS, 5 s, and preStopSleepSeconds)" (int $given) $needed) }}
{{- else }}{{ int $given }}
{{- end }}
{{- end }}

{{/* What cannot be meant. Missing variables are none of it: they may come from envFrom, and the broker lists them. */}}
{{- define "runner-broker.check" -}}
{{- if and .Values.tls.enabled (not .Values.tls.secretName) }}
{{- fail "tls.secretName: wanted with tls.enabled" }}
{{- end }}
{{- if and .Values.policy.inline .Values.policy.existingConfigMap }}
{{- fail "policy: wanted inline or existingConfigMap, not both" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.host: wanted with ingress.enabled" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: wanted with httpRoute.enabled" }}
{{- end }}
{{- if and .Values.migrate.enabled .Values.migrate.serviceRole (eq (toJson .Values.migrate.secret) (toJson .Values.secrets.database)) }}
{{- fail "migrate.secret: it is the service's own; wanted one with the owner's role (or migrate.serviceRole=\"\" if there is only one role)" }}
{{- end }}
{{- end }}
