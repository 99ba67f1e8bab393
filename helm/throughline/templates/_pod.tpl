{{/* What every pod has. Call with (dict "root" $ "component" NAME "values" its values). */}}
{{- define "throughline.podMeta" -}}
labels:
  {{- include "throughline.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/job: {{ include "throughline.job" .root | sha256sum }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "throughline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "throughline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "throughline.podCommon" -}}
{{- $root := .root -}}
{{- if and (eq .component "server") $root.Values.roleLabels.enabled }}
serviceAccountName: {{ include "throughline.fullname" $root }}-server
automountServiceAccountToken: true
{{- else }}
serviceAccountName: {{ include "throughline.serviceAccount" $root }}
automountServiceAccountToken: false
{{- end }}
enableServiceLinks: false
securityContext:
  {{- include "throughline.podSecurity" . | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Prefer different nodes and zones. */}}
{{- define "throughline.spread" -}}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "throughline.selector" . | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "throughline.selector" . | nindent 8 }}
  {{- end }}
{{- end }}

{{/* The environment of every service: each option has a variable. */}}
{{- define "throughline.env" -}}
{{- $root := .root -}}
{{- $v6 := eq $root.Values.ipFamily "IPv6" -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: THROUGHLINE_JOB
  value: /etc/throughline/job.json
- name: THROUGHLINE_RUN
  value: {{ .run | default $root.Values.run | quote }}
{{- if $root.Values.external.redis.existingSecret }}
- name: THROUGHLINE_REDIS_FILE
  value: /run/secrets/throughline/redis/url
{{- else }}
- name: THROUGHLINE_REDIS
  value: {{ include "throughline.redisURL" $root | quote }}
{{- end }}
- name: THROUGHLINE_SECRET_FILE
  value: /run/secrets/throughline/auth/secret
{{- if $root.Values.tls.enabled }}
- name: THROUGHLINE_TLS_CERT
  value: /run/secrets/throughline/tls/tls.crt
- name: THROUGHLINE_TLS_KEY
  value: /run/secrets/throughline/tls/tls.key
- name: THROUGHLINE_TLS_CA
  value: /run/secrets/throughline/tls/ca.crt
{{- end }}
- name: THROUGHLINE_LOG_FORMAT
  value: {{ $root.Values.logFormat }}
- name: THROUGHLINE_LOG_LEVEL
  value: {{ $root.Values.logLevel }}
{{- if not .offline }}
- name: THROUGHLINE_HTTP
  value: "{{ ternary "[::]" "0.0.0.0" $v6 }}:9100"
- name: THROUGHLINE_HTTP_ADVERTISE
  value: "{{ ternary "[$(POD_IP)]" "$(POD_IP)" $v6 }}:9100"
{{- end }}
{{- if include "throughline.hasS3" $root }}
- name: THROUGHLINE_S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ include "throughline.s3Secret" $root }}, key: access-key}}
- name: THROUGHLINE_S3_SECRET_KEY_FILE
  value: /run/secrets/throughline/s3/secret-key
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "throughline.serverEnv" -}}
{{- $v6 := eq .root.Values.ipFamily "IPv6" -}}
- name: THROUGHLINE_LISTEN
  value: tcp://{{ ternary "[::]" "0.0.0.0" $v6 }}:7000
{{- if .root.Values.tls.enabled }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: THROUGHLINE_ADVERTISE
  value: tcp://$(POD_NAME).{{ include "throughline.serverDomain" .root }}:7000
{{- else }}
- name: THROUGHLINE_ADVERTISE
  value: tcp://{{ ternary "[$(POD_IP)]" "$(POD_IP)" $v6 }}:7000
{{- end }}
{{- if and (eq .component "server") .root.Values.roleLabels.enabled }}
- name: THROUGHLINE_ROLE_LABEL
  value: throughline/role
{{- end }}
- name: THROUGHLINE_DRAIN_MS
  value: "{{ mul .root.Values.server.drainSeconds 1000 }}"
{{- end }}

{{- define "throughline.mounts" -}}
- {name: job, mountPath: /etc/throughline, readOnly: true}
- {name: auth, mountPath: /run/secrets/throughline/auth, readOnly: true}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /run/secrets/throughline/tls, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- if include "throughline.hasS3" .root }}
- {name: s3, mountPath: /run/secrets/throughline/s3, readOnly: true}
{{- end }}
{{- if include "throughline.hasKafkaSecret" .root }}
- {name: kafka, mountPath: /run/secrets/throughline/kafka, readOnly: true}
{{- end }}
{{- if .root.Values.external.redis.existingSecret }}
- {name: redis, mountPath: /run/secrets/throughline/redis, readOnly: true}
{{- end }}
{{- if and .store (include "throughline.hasVolume" .root) }}
- {name: store, mountPath: /var/lib/throughline/store}
{{- end }}
{{- if and .data (ne .root.Values.data.source "image") }}
- {name: data, mountPath: {{ .root.Values.data.path }}, readOnly: true}
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "throughline.volumes" -}}
- name: job
  configMap: {name: {{ .jobConfigMap | default (include "throughline.jobConfigMap" .root) }}}
- name: auth
  secret: {secretName: {{ include "throughline.authSecret" .root }}, items: [{key: secret, path: secret}]}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "throughline.tlsSecret" .root }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      - {key: ca.crt, path: ca.crt}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if include "throughline.hasS3" .root }}
- name: s3
  secret: {secretName: {{ include "throughline.s3Secret" .root }}, items: [{key: secret-key, path: secret-key}]}
{{- end }}
{{- if include "throughline.hasKafkaSecret" .root }}
- name: kafka
  secret:
    secretName: {{ .root.Values.external.kafka.existingSecret }}
    items:
      {{- range values .root.Values.external.kafka.secretKeys | uniq | sortAlpha }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- with .root.Values.external.redis.existingSecret }}
- name: redis
  secret: {secretName: {{ . }}, items: [{key: url, path: url}]}
{{- end }}
{{- if and .store (include "throughline.hasVolume" .root) }}
- name: store
  persistentVolumeClaim:
    claimName: {{ .root.Values.store.volume.existingClaim | default (printf "%s-store" (include "throughline.fullname" .root)) }}
{{- end }}
{{- if .data }}
{{- if eq .root.Values.data.source "volume" }}
- name: data
  {{- toYaml .root.Values.data.volume | nindent 2 }}
{{- else if eq .root.Values.data.source "url" }}
- name: data
  emptyDir: {}
{{- end }}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Fetches the data and checks them, before whatever reads them starts. */}}
{{- define "throughline.fetch" -}}
{{- if eq .root.Values.data.source "url" }}
initContainers:
  - name: fetch
    image: {{ .root.Values.data.url.image }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: [sh, -euc]
    args:
      - |
        get() { # NAME SHA256
          curl --fail --silent --show-error --location --proto =http,https \
            --connect-timeout 15 --speed-limit 1024 --speed-time 30 \
            --retry 5 --retry-connrefused \
            {{- if .root.Values.data.url.signed }}
            --aws-sigv4 {{ printf "aws:amz:%s:s3" .root.Values.external.s3.region }} --user "$ACCESS_KEY:$SECRET_KEY" \
            {{- end }}
            --output "/data/$1" "$BASE/$1"
          echo "$2  /data/$1" | sha256sum -c - || {
            echo "$BASE/$1: its SHA-256 is not the one in data.url.sha256"; exit 1; }
        }
        {{- range tuple "trainImages" "trainLabels" "testImages" "testLabels" }}
        {{- $name := get $.root.Values.data . }}
        get {{ $name }} {{ get $.root.Values.data.url.sha256 $name }}
        {{- end }}
    env:
      - {name: BASE, value: {{ .root.Values.data.url.base | quote }}}
      {{- if .root.Values.data.url.signed }}
      - name: ACCESS_KEY
        valueFrom: {secretKeyRef: {name: {{ include "throughline.s3Secret" .root }}, key: access-key}}
      - name: SECRET_KEY
        valueFrom: {secretKeyRef: {name: {{ include "throughline.s3Secret" .root }}, key: secret-key}}
      {{- end }}
    securityContext:
      {{- include "throughline.containerSecurity" . | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 32Mi}
      limits: {cpu: "1", memory: 128Mi}
    volumeMounts:
      - {name: data, mountPath: /data}
{{- end }}
{{- end }}

{{/* Alive is that the loop turns: it depends on nothing outside the process. A server
     answers HTTP once it has its state back, which takes as long as the store does. */}}
{{- define "throughline.probes" -}}
ports:
  {{- if eq .component "server" }}
  - {name: frames, containerPort: 7000}
  {{- end }}
  - {name: http, containerPort: 9100}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  failureThreshold: 600
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* One service's container, and the pod around it. */}}
{{- define "throughline.container" -}}
name: {{ .component }}
{{- if eq .component "server" }}
image: {{ include "throughline.serverImage" .root }}
{{- else }}
image: {{ include "throughline.image" (dict "root" .root "service" .component) }}
{{- end }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- include "throughline.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{ include "throughline.probes" . }}
{{- end }}
