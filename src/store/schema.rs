//! The tables as diesel sees them, in the order of the migrations; a test holds them against Postgres.
//! `audit_log.xid` is left out: only Postgres writes it and only the sealer reads it.

diesel::table! {
    teams (name) {
        name -> Text,
        description -> Text,
        required_labels -> Array<Text>,
        allowed_labels -> Array<Text>,
        methods -> Array<Text>,
        targets -> Nullable<Array<Text>>,
        runner_groups -> Nullable<Jsonb>,
        max_runners -> Nullable<Int8>,
        requests_per_minute -> Nullable<Int8>,
        active -> Bool,
        position -> Int4,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    team_members (id) {
        id -> Int8,
        team -> Text,
        position -> Int4,
        issuer -> Text,
        claims -> Jsonb,
    }
}

diesel::table! {
    role_members (id) {
        id -> Int8,
        role -> Text,
        position -> Int4,
        issuer -> Text,
        claims -> Jsonb,
    }
}

diesel::table! {
    policy_versions (id) {
        id -> Int8,
        sha256 -> Text,
        source -> Text,
        applied_at -> Timestamptz,
    }
}

diesel::table! {
    team_requests (team, at) {
        team -> Text,
        at -> Timestamptz,
    }
}

diesel::table! {
    runners (id) {
        id -> Uuid,
        name -> Text,
        target -> Text,
        team -> Text,
        status -> Text,
        method -> Text,
        labels -> Array<Text>,
        ephemeral -> Bool,
        busy -> Bool,
        runner_group_id -> Int8,
        github_runner_id -> Nullable<Int8>,
        generation -> Int4,
        issuer -> Text,
        subject -> Text,
        provisioned_by -> Text,
        credential_sha256 -> Nullable<Text>,
        deleting_from -> Nullable<Text>,
        delete_attempts -> Int4,
        delete_after -> Nullable<Timestamptz>,
        wait_until_idle -> Bool,
        failure -> Nullable<Text>,
        may_appear -> Bool,
        missed_sweeps -> Int4,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        requested_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        facts_at -> Nullable<Timestamptz>,
        registered_at -> Nullable<Timestamptz>,
        last_seen_at -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
        drifted_labels -> Nullable<Array<Text>>,
    }
}

diesel::table! {
    github_runners_cache (target, page) {
        target -> Text,
        page -> Int4,
        etag -> Nullable<Text>,
        has_next -> Bool,
        runners -> Jsonb,
        fetched_at -> Timestamptz,
        total -> Nullable<Int8>,
    }
}

diesel::table! {
    idempotency_keys (issuer, subject, key) {
        issuer -> Text,
        subject -> Text,
        key -> Text,
        fingerprint -> Text,
        runner_id -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        holder -> Uuid,
        epoch -> Int8,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    audit_log (id) {
        id -> Int8,
        timestamp -> Timestamptz,
        event_type -> Text,
        severity -> Text,
        success -> Bool,
        user_identity -> Text,
        issuer -> Nullable<Text>,
        subject -> Nullable<Text>,
        team -> Nullable<Text>,
        runner_id -> Nullable<Uuid>,
        runner_name -> Nullable<Text>,
        target -> Nullable<Text>,
        request_id -> Nullable<Text>,
        request_ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        policy_rule -> Nullable<Text>,
        event_data -> Jsonb,
        error_code -> Nullable<Text>,
        error_message -> Nullable<Text>,
    }
}

diesel::table! {
    sync_targets (target) {
        target -> Text,
        created_at -> Timestamptz,
        wanted_at -> Nullable<Timestamptz>,
        started_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        completed_at -> Nullable<Timestamptz>,
        result -> Nullable<Text>,
        error -> Nullable<Text>,
        runners_seen -> Nullable<Int8>,
    }
}

diesel::table! {
    unmanaged_runners (target, github_runner_id) {
        target -> Text,
        github_runner_id -> Int8,
        name -> Text,
        first_seen_at -> Timestamptz,
        missed_sweeps -> Int4,
        removing_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_deliveries (id) {
        id -> Text,
        event -> Text,
        lane -> Text,
        content -> Jsonb,
        received_at -> Timestamptz,
        attempts -> Int4,
        next_attempt_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        failure -> Nullable<Text>,
    }
}

diesel::table! {
    webhook_redeliveries (guid) {
        guid -> Text,
        delivery_id -> Int8,
        attempts -> Int4,
        requested_at -> Timestamptz,
        given_up_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_listings (name) {
        name -> Text,
        listed_until -> Timestamptz,
    }
}

diesel::table! {
    jobs (id) {
        id -> Int8,
        run_id -> Int8,
        repository -> Text,
        owner -> Text,
        workflow -> Nullable<Text>,
        name -> Text,
        labels -> Array<Text>,
        state -> Text,
        state_at -> Timestamptz,
        conclusion -> Nullable<Text>,
        runner_id -> Nullable<Int8>,
        runner_name -> Nullable<Text>,
        team -> Nullable<Text>,
        queued_at -> Nullable<Timestamptz>,
        started_at -> Nullable<Timestamptz>,
        completed_at -> Nullable<Timestamptz>,
        queued_seen_at -> Nullable<Timestamptz>,
        no_match_at -> Nullable<Timestamptz>,
        changed_at -> Timestamptz,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    job_violations (job_id) {
        job_id -> Int8,
        claimed_at -> Timestamptz,
        reported_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    installations (target) {
        target -> Text,
        installation_id -> Nullable<Int8>,
        blocked -> Nullable<Text>,
        changed_at -> Timestamptz,
        token_epoch -> Int8,
        checks -> Int4,
        next_check_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    audit_tree (leaf_index) {
        leaf_index -> Int8,
        event_id -> Int8,
        leaf_hash -> Bytea,
    }
}

diesel::table! {
    audit_nodes (level, node_index) {
        level -> Int4,
        node_index -> Int8,
        hash -> Bytea,
    }
}

diesel::table! {
    audit_checkpoints (id) {
        id -> Int8,
        tree_size -> Int8,
        note -> Text,
        signed_at -> Timestamptz,
    }
}

diesel::table! {
    audit_seal (single) {
        single -> Bool,
        place -> Text,
        horizon_id -> Int8,
        horizon_xid -> Int8,
        horizon_time -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    identities (id) {
        id -> Uuid,
        sha256 -> Text,
        issuer -> Text,
        subject -> Text,
        display_name -> Text,
        active -> Bool,
        first_seen_at -> Timestamptz,
        last_seen_at -> Timestamptz,
        deactivated_at -> Nullable<Timestamptz>,
        comment -> Nullable<Text>,
    }
}

diesel::table! {
    alerts (event_id) {
        event_id -> Int8,
        kind -> Text,
        who -> Text,
        urgency -> Int4,
        action_taken -> Nullable<Text>,
    }
}

diesel::table! {
    alert_posts (id) {
        id -> Uuid,
        kind -> Text,
        who -> Text,
        urgency -> Int4,
        events -> Int8,
        first_event_id -> Int8,
        last_event_id -> Int8,
        action_taken -> Nullable<Text>,
        attempts -> Int4,
        due_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    sessions (token_sha256) {
        token_sha256 -> Text,
        identity_sha256 -> Text,
        provider -> Text,
        issuer -> Text,
        subject -> Text,
        display_name -> Text,
        claims -> Jsonb,
        created_at -> Timestamptz,
        last_seen_at -> Timestamptz,
    }
}

diesel::table! {
    sign_in_attempts (network, step) {
        network -> Text,
        step -> Text,
        count -> Int4,
        began_at -> Timestamptz,
    }
}

diesel::table! {
    deny_rules (id) {
        id -> Int8,
        position -> Int4,
        issuer -> Text,
        claims -> Jsonb,
        comment -> Text,
        until -> Nullable<Timestamptz>,
    }
}
