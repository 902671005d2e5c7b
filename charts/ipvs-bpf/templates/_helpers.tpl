{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- define "ipvs-bpf.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* Operator and uninstall hook, not the agents. */ -}}
{{- define "ipvs-bpf.selector" -}}
app.kubernetes.io/name: ipvs-bpf
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ipvs-bpf.operator.selector" -}}
app.kubernetes.io/name: ipvs-bpf
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ipvs-bpf.operator.labels" -}}
{{ include "ipvs-bpf.operator.selector" . }}
{{ include "ipvs-bpf.release.labels" . }}
{{- end -}}

{{- define "ipvs-bpf.uninstall.labels" -}}
{{ include "ipvs-bpf.selector" . }}
app.kubernetes.io/component: uninstall
{{ include "ipvs-bpf.release.labels" . }}
{{- end -}}

{{- define "ipvs-bpf.release.labels" -}}
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
      "updateStrategy" ($agent.updateStrategy | default dict)
      "metricsPort" (ternary $agent.metrics.port 0 $agent.metrics.enabled)
    | toJson -}}
{{- end -}}

{{- /* Of the pods of operator and uninstall hook: what Pod Security calls restricted. */ -}}
{{- define "ipvs-bpf.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ipvs-bpf.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ipvs-bpf.imagePullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /*
Fails if the cluster is known and has no Prometheus operator; "helm template" knows no cluster. Takes a list of the
context and the value's name.
*/ -}}
{{- define "ipvs-bpf.requireMonitoring" -}}
{{- $context := index . 0 -}}
{{- if not ($context.Capabilities.APIVersions.Has "monitoring.coreos.com/v1") -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}
{{- fail (printf "%s is true, but the cluster does not serve monitoring.coreos.com/v1: install the Prometheus operator first, or set it to false" (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
