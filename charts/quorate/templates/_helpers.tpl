{{/* What the objects of this release are called. The names of pods and Services are made from it, and so are labels. */}}
{{- define "quorate.name" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$" $name) -}}
{{- fail (printf "%q cannot be part of the names of Services; allowed: 1 to 50 lower-case letters, digits and '-', beginning with a letter. Choose another name for the release, or set fullnameOverride" $name) -}}
{{- end -}}
{{- if printf "name: %s" $name | fromYaml | dig "name" "" | kindIs "string" | not -}}
{{- fail (printf "%q is no text in YAML. Choose another name for the release, or set fullnameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* What the name of an object that belongs to no namespace begins with. No name has a colon, so no two releases share it. */}}
{{- define "quorate.global" -}}
quorate:{{ .Release.Namespace }}:{{ include "quorate.name" . }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "quorate.labels" -}}
app.kubernetes.io/name: quorate
app.kubernetes.io/instance: {{ include "quorate.name" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What the members' pods are selected by. It never changes. */}}
{{- define "quorate.selector" -}}
app.kubernetes.io/name: quorate
app.kubernetes.io/instance: {{ include "quorate.name" . }}
app.kubernetes.io/component: member
{{- end }}

{{- define "quorate.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{/* What the restricted Pod Security Standard asks of a container. */}}
{{- define "quorate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The same of a pod that has no volume of its own. */}}
{{- define "quorate.podSecurity" -}}
runAsNonRoot: true
{{- with omit .Values.podSecurityContext "fsGroup" }}
{{ toYaml . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What a pod that runs one short command may use. */}}
{{- define "quorate.smallResources" -}}
requests:
  cpu: 10m
  memory: 32Mi
  ephemeral-storage: 8Mi
limits:
  memory: 128Mi
  ephemeral-storage: 64Mi
{{- end }}
