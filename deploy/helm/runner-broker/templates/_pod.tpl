{{/* The environment of `serve`, and of what looks at it. */}}
{{- define "runner-broker.env" -}}
{{- $root := . }}
{{- $secrets := .Values.secrets }}
{{- $names := list }}
{{- with $secrets.database.name }}
{{- $names = append $names "DATABASE_URL" }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: { name: {{ . }}, key: {{ $secrets.database.key }} }
{{- end }}
{{- $own := dict
  "PORT" $root.Values.containerPort
  "HTTPS_ENABLED" $root.Values.tls.enabled
  "PUBLIC_URL" (include "runner-broker.publicUrl" $root) }}
{{- if .Values.tls.enabled }}
{{- $_ := set $own "HTTPS_CERT_FILE" "/etc/runner-broker/tls/tls.crt" }}
{{- $_ := set $own "HTTPS_KEY_FILE" "/etc/runner-broker/tls/tls.key" }}
{{- end }}
{{- with $secrets.githubApp }}{{ if .name }}
{{- $_ := set $own "GITHUB_APP_PRIVATE_KEY_PATH" (printf "/etc/runner-broker/github-app/%s" .key) }}
{{- end }}{{ end }}
{{- with $secrets.auditSigningKey }}{{ if .name }}
{{- $_ := set $own "AUDIT_SIGNING_KEY_PATH" (printf "/etc/runner-broker/audit/%s" .key) }}
{{- end }}{{ end }}
{{- if include "runner-broker.policyConfigMap" . }}
{{- $_ := set $own "POLICY_FILE" (printf "/etc/runner-broker/policy/%s" .Values.policy.key) }}
{{- end }}
{{- if .Values.caBundle.configMap }}
{{- $_ := set $own "SSL_CERT_FILE" (printf "/etc/runner-broker/ca/%s" .Values.caBundle.key) }}
{{- end }}
{{- range $name, $value := .Values.config }}
{{- if and (eq $name "TRUSTED_PROXIES") (kindIs "slice" $value) }}{{ $value = join "," $value }}{{ end }}
{{- if not (or (kindIs "invalid" $value) (eq (include "runner-broker.text" $value) "") (eq $name "PUBLIC_URL")) }}
{{- $_ := set $own $name $value }}
{{- end }}
{{- end }}
{{- range $name, $value := $own }}
{{- $names = append $names $name }}
- name: {{ $name }}
  value: {{ include "runner-broker.text" $value | quote }}
{{- end }}
{{- with $secrets.githubWebhook }}{{ if .name }}
{{- $names = append $names "GITHUB_WEBHOOK_SECRET" }}
- name: GITHUB_WEBHOOK_SECRET
  valueFrom:
    secretKeyRef: { name: {{ .name }}, key: {{ .key }} }
{{- end }}{{ end }}
{{- with $secrets.alerts }}{{ if .name }}
{{- $names = append (append $names "ALERT_WEBHOOK_URL") "ALERT_WEBHOOK_SECRET" }}
- name: ALERT_WEBHOOK_URL
  valueFrom:
    secretKeyRef: { name: {{ .name }}, key: {{ .urlKey }} }
- name: ALERT_WEBHOOK_SECRET
  valueFrom:
    secretKeyRef: { name: {{ .name }}, key: {{ .secretKey }} }
{{- end }}{{ end }}
{{- range .Values.extraEnv }}
{{- if has .name $names }}
{{- fail (printf "extraEnv: %s is set by the chart already: see config, secrets and tls" .name) }}
{{- end }}
{{- if eq .name "GITHUB_TIMEOUT_SECONDS" }}
{{- fail "extraEnv: GITHUB_TIMEOUT_SECONDS belongs into config, as terminationGracePeriodSeconds follows from it" }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Whole folders, never a subPath: only those follow when a Secret or ConfigMap changes. */}}
{{- define "runner-broker.mounts" -}}
{{- $secrets := .Values.secrets }}
{{- if $secrets.githubApp.name }}
- { name: github-app, mountPath: /etc/runner-broker/github-app, readOnly: true }
{{- end }}
{{- if $secrets.auditSigningKey.name }}
- { name: audit, mountPath: /etc/runner-broker/audit, readOnly: true }
{{- end }}
{{- if $secrets.login.name }}
- { name: login, mountPath: /etc/runner-broker/login, readOnly: true }
{{- end }}
{{- if .Values.tls.enabled }}
- { name: tls, mountPath: /etc/runner-broker/tls, readOnly: true }
{{- end }}
{{- if include "runner-broker.policyConfigMap" . }}
- { name: policy, mountPath: /etc/runner-broker/policy, readOnly: true }
{{- end }}
{{- include "runner-broker.sharedMounts" . }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "runner-broker.volumes" -}}
{{- $secrets := .Values.secrets }}
{{- with $secrets.githubApp }}{{ if .name }}
- name: github-app
  secret: { secretName: {{ .name }}, defaultMode: 0440, items: [{ key: {{ .key }}, path: {{ .key }} }] }
{{- end }}{{ end }}
{{- with $secrets.auditSigningKey }}{{ if .name }}
- name: audit
  secret: { secretName: {{ .name }}, defaultMode: 0440, items: [{ key: {{ .key }}, path: {{ .key }} }] }
{{- end }}{{ end }}
{{- with $secrets.login.name }}
- name: login
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  secret: { secretName: {{ .Values.tls.secretName }}, defaultMode: 0440 }
{{- end }}
{{- with include "runner-broker.policyConfigMap" . }}
- name: policy
  configMap: { name: {{ . }} }
{{- end }}
{{- include "runner-broker.sharedVolumes" . }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What `migrate` needs as well. */}}
{{- define "runner-broker.sharedMounts" -}}
{{- if .Values.secrets.databaseCertificates.name }}
- { name: database, mountPath: /etc/runner-broker/database, readOnly: true }
{{- end }}
{{- if .Values.caBundle.configMap }}
- { name: ca, mountPath: /etc/runner-broker/ca, readOnly: true }
{{- end }}
{{- end }}

{{- define "runner-broker.sharedVolumes" -}}
{{- with .Values.secrets.databaseCertificates.name }}
- name: database
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- with .Values.caBundle.configMap }}
- name: ca
  configMap: { name: {{ . }} }
{{- end }}
{{- end }}
