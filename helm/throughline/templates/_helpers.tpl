{{/* Names. */}}
{{- define "throughline.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "throughline.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "throughline.fullname" .) -}}
{{- end }}

{{/* Labels. Call with (dict "root" $ "component" NAME). */}}
{{- define "throughline.selector" -}}
app.kubernetes.io/name: throughline
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "throughline.labels" -}}
{{ include "throughline.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: throughline
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The image of one service. Call with (dict "root" $ "service" NAME). */}}
{{- define "throughline.image" -}}
{{- $i := .root.Values.image -}}
{{- $name := printf "%s/%s" $i.repository .service -}}
{{- if $i.registry }}{{ $name = printf "%s/%s" $i.registry $name }}{{ end -}}
{{- with get $i.digests .service -}}
{{ $name }}@{{ . }}
{{- else -}}
{{ $name }}:{{ $i.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Which parts a strategy has. Non-empty is yes. */}}
{{- define "throughline.hasStore" -}}
{{- if has .Values.strategy (list "checkpoint" "stateless" "hybrid") }}yes{{ end -}}
{{- end }}
{{- define "throughline.hasS3" -}}
{{- if and (include "throughline.hasStore" .) (eq .Values.store.kind "s3") }}yes{{ end -}}
{{- end }}
{{- define "throughline.hasVolume" -}}
{{- if and (include "throughline.hasStore" .) (eq .Values.store.kind "volume") }}yes{{ end -}}
{{- end }}

{{- define "throughline.hasLog" -}}
{{- if or (has .Values.strategy (list "stateless" "hybrid")) (eq (get .Values.job "recovery" | default "resume") "replay") }}yes{{ end -}}
{{- end }}
{{- define "throughline.hasKafka" -}}
{{- if and (include "throughline.hasLog" .) (eq .Values.log.kind "kafka") }}yes{{ end -}}
{{- end }}
{{- define "throughline.hasRedisLog" -}}
{{- if and (include "throughline.hasLog" .) (eq .Values.log.kind "redis") }}yes{{ end -}}
{{- end }}

{{/* How many programs hold each shard, which one that is, and how many there are in all. */}}
{{- define "throughline.replicas" -}}
{{- if eq .Values.strategy "chain" -}}
{{ get (.Values.job.chain | default dict) "length" | default 3 }}
{{- else if eq .Values.strategy "hybrid" -}}
{{ get (.Values.job.hybrid | default dict) "standbys" | default 1 | add 1 }}
{{- else -}}
1
{{- end -}}
{{- end }}
{{- define "throughline.serverImage" -}}
{{- $service := ternary "replica" "server" (has .Values.strategy (list "chain" "hybrid")) -}}
{{ include "throughline.image" (dict "root" . "service" $service) }}
{{- end }}
{{- define "throughline.servers" -}}
{{ mul .Values.shards (include "throughline.replicas" . | int) }}
{{- end }}

{{/* Addresses of the things that the services talk to. */}}
{{- define "throughline.storeBase" -}}
{{- if include "throughline.hasVolume" . -}}
file:///var/lib/throughline/store
{{- else if .Values.dev.s3.enabled -}}
s3://{{ .Values.dev.s3.bucket }}
{{- else -}}
s3://{{ .Values.external.s3.bucket }}{{ with .Values.external.s3.prefix }}/{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{/* A store holds the snapshots of one run. */}}
{{- define "throughline.storeURL" -}}
{{ include "throughline.storeBase" . }}/{{ .Values.job.name }}/{{ .Values.run }}
{{- end }}

{{- define "throughline.redisURL" -}}
{{- if .Values.dev.redis.enabled -}}
redis://{{ include "throughline.fullname" . }}-redis:6379
{{- else -}}
{{ .Values.external.redis.url }}
{{- end -}}
{{- end }}

{{/* For the command line, which takes no URL with a password. */}}
{{- define "throughline.redisFlag" -}}
{{- if .Values.external.redis.existingSecret -}}
--redis-file=/run/secrets/throughline/redis/url
{{- else -}}
--redis={{ include "throughline.redisURL" . }}
{{- end -}}
{{- end }}

{{- define "throughline.s3Endpoint" -}}
{{- if .Values.dev.s3.enabled -}}
http://{{ include "throughline.fullname" . }}-s3:7070
{{- else -}}
{{ .Values.external.s3.endpoint }}
{{- end -}}
{{- end }}

{{- define "throughline.s3Secret" -}}
{{- .Values.external.s3.existingSecret | default (printf "%s-s3" (include "throughline.fullname" .)) -}}
{{- end }}

{{- define "throughline.logURL" -}}
{{- if include "throughline.hasRedisLog" . -}}
redis:
{{- else if .Values.dev.kafka.enabled -}}
kafka://{{ include "throughline.fullname" . }}-kafka:9092
{{- else -}}
kafka://{{ .Values.external.kafka.brokers }}
{{- end -}}
{{- end }}

{{- define "throughline.hasKafkaSecret" -}}
{{- if and (include "throughline.hasKafka" .) .Values.external.kafka.existingSecret }}yes{{ end -}}
{{- end }}

{{/* Settings of librdkafka: the job's, and those whose values are files of a Secret. */}}
{{- define "throughline.kafkaSettings" -}}
{{- $settings := deepCopy (.Values.job.kafka | default dict) -}}
{{- if include "throughline.hasKafkaSecret" . -}}
{{- range $setting, $key := .Values.external.kafka.secretKeys -}}
{{- $_ := set $settings (printf "%s_file" $setting) (printf "/run/secrets/throughline/kafka/%s" $key) -}}
{{- end -}}
{{- end -}}
{{ toJson $settings }}
{{- end }}

{{- define "throughline.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "throughline.fullname" .)) -}}
{{- end }}

{{- define "throughline.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "throughline.fullname" .)) -}}
{{- end }}

{{/* Where servers are found: what their certificate is for. */}}
{{- define "throughline.serverDomain" -}}
{{ include "throughline.fullname" . }}-server.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "throughline.jobConfigMap" -}}
{{- .Values.existingJob | default (printf "%s-job" (include "throughline.fullname" .)) -}}
{{- end }}

{{/* The job file. */}}
{{- define "throughline.job" -}}
{{- $v := .Values -}}
{{- $at := $v.data.path -}}
{{- $data := dict
    "train_images" (printf "%s/%s" $at $v.data.trainImages)
    "train_labels" (printf "%s/%s" $at $v.data.trainLabels)
    "test_images" (printf "%s/%s" $at $v.data.testImages)
    "test_labels" (printf "%s/%s" $at $v.data.testLabels) -}}
{{- $job := deepCopy $v.job -}}
{{- $_ := set $job "data" $data -}}
{{- $_ := set $job "strategy" $v.strategy -}}
{{- $_ := set $job "consistency" $v.consistency -}}
{{- $_ := set $job "shards" (int $v.shards) -}}
{{- $_ := set $job "workers" (int $v.workers.count) -}}
{{- if include "throughline.hasStore" . -}}
{{- $_ := set $job "checkpoint" (merge (dict "store" (include "throughline.storeURL" .)) ($job.checkpoint | default dict)) -}}
{{- end -}}
{{- if include "throughline.hasS3" . -}}
{{- $s3 := dict "region" $v.external.s3.region -}}
{{- with include "throughline.s3Endpoint" . }}{{ $_ := set $s3 "endpoint" . }}{{ end -}}
{{- $_ := set $job "s3" (merge ($job.s3 | default dict) $s3) -}}
{{- end -}}
{{- if eq $v.strategy "chain" -}}
{{- $_ := set $job "chain" (merge (dict "length" (include "throughline.replicas" . | int)) ($job.chain | default dict)) -}}
{{- end -}}
{{- if eq $v.strategy "hybrid" -}}
{{- $_ := set $job "hybrid" (merge (dict "standbys" (include "throughline.replicas" . | int | add -1)) ($job.hybrid | default dict)) -}}
{{- end -}}
{{- if include "throughline.hasLog" . -}}
{{- $_ := set $job "log" (merge (dict "url" (include "throughline.logURL" .)) ($job.log | default dict)) -}}
{{- end -}}
{{- if include "throughline.hasKafka" . -}}
{{- with fromJson (include "throughline.kafkaSettings" .) }}{{ $_ := set $job "kafka" . }}{{ end -}}
{{- end -}}
{{ toPrettyJson $job }}
{{- end }}
