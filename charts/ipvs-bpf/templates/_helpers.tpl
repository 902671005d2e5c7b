{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- define "ipvs-bpf.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ipvs-bpf.operator.selector" -}}
app.kubernetes.io/name: ipvs-bpf
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ipvs-bpf.operator.labels" -}}
{{ include "ipvs-bpf.operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- /* What the operator makes the agents' DaemonSet from. */ -}}
{{- define "ipvs-bpf.agent.config" -}}
{{- $agent := .Values.agent -}}
{{- dict
      "image" (include "ipvs-bpf.image" .)
      "imagePullPolicy" .Values.image.pullPolicy
      "imagePullSecrets" (.Values.image.pullSecrets | default list)
      "moduleHostPath" $agent.moduleHostPath
      "apiServer" ($agent.apiServer | default "")
      "logLevel" .Values.log.level
      "logFormat" .Values.log.format
      "priorityClassName" ($agent.priorityClassName | default "")
      "resources" ($agent.resources | default dict)
      "nodeSelector" ($agent.nodeSelector | default dict)
      "tolerations" ($agent.tolerations | default list)
    | toJson -}}
{{- end -}}
