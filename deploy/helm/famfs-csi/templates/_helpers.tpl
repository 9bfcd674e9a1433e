{{- define "famfs-csi.labels" -}}
app.kubernetes.io/name: famfs-csi
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "famfs-csi.selector" -}}
app.kubernetes.io/name: famfs-csi
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "famfs-csi.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What every container but the node plugin's runs with. */}}
{{- define "famfs-csi.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
