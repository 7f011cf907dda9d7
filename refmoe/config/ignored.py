"""Config keys that no forward pass depends on, each group with the reason why it may be ignored."""

_GROUPS = {
    "names or describes the file, not the model": """
        architectures transformers_version name_or_path finetuning_task task_specific_params problem_type prefix
        unsloth_version unsloth_fixed transformers.js_config""",
    "storage type: every tensor's own header states it": "torch_dtype dtype use_bfloat16",
    "custom code of the repository: never imported, the program is our own": "auto_map custom_pipelines",
    "token ids and tokenizer names: read by the text side, not by the forward pass": """
        bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id cls_token_id mask_token_id
        decoder_start_token_id forced_bos_token_id forced_eos_token_id tokenizer_class""",
    "initial values for training": "initializer_range initializer_factor",
    "dropout: not active outside training": """
        attention_dropout attn_dropout attn_pdrop embd_pdrop resid_pdrop hidden_dropout hidden_dropout_prob dropout
        classifier_dropout ffn_dropout neftune_noise_alpha""",
    "training option": """
        gradient_checkpointing output_router_logits router_aux_loss_coef router_jitter_noise label_smoothing""",
    "cuts the same matrix products into pieces; the order of our sums is fixed by the spec": "pretraining_tp",
    "chooses an implementation or a cache, not what is computed": """
        use_cache attn_implementation experts_implementation use_flash_attn use_flash_attention use_flash_attention_2
        chunk_size_feed_forward torchscript cache_implementation cache_config return_legacy_cache tf_legacy_loss
        low_memory disable_compile compile_config prefill_chunk_size""",
    "chooses what a library returns": """
        return_dict return_dict_in_generate output_hidden_states output_attentions output_scores output_logits
        tie_last_hidden_states use_return_dict""",
    "classification labels": "id2label label2id num_labels",
    "of models with an encoder": """
        tie_encoder_decoder cross_attention_hidden_size encoder_no_repeat_ngram_size is_decoder""",
    "default of somebody's sampler; ours takes its settings from the caller": """
        max_length min_length max_new_tokens min_new_tokens max_time do_sample early_stopping num_beams num_beam_groups
        diversity_penalty temperature top_k top_p top_h min_p typical_p epsilon_cutoff eta_cutoff repetition_penalty
        encoder_repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids force_words_ids constraints
        num_return_sequences remove_invalid_values exponential_decay_length_penalty suppress_tokens
        begin_suppress_tokens forced_decoder_ids sequence_bias token_healing guidance_scale penalty_alpha dola_layers
        renormalize_logits stop_strings watermarking_config is_assistant num_assistant_tokens
        num_assistant_tokens_schedule assistant_confidence_threshold prompt_lookup_num_tokens max_matching_ngram_size
        assistant_early_exit assistant_lookbehind target_lookbehind generation_kwargs generation_config""",
    "a length limit of the data or the tokenizer": "max_sequence_length model_max_length seq_length",
}

IGNORED: dict[str, str] = {key: reason for reason, keys in _GROUPS.items() for key in keys.split()}
